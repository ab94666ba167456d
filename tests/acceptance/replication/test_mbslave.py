"""A mirror of another make: mbslave 28, from our feed."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.acceptance.replication.conftest import Site
from tests.foreign import mbslave_tables
from tests.integration.workers.replication.support import differing


def edit(site: Site) -> None:
    """Edits of several kinds; one transaction begins first, and commits last."""
    with site.home.connect() as editor, site.home.connect() as slow:
        one, other = [row[0] for row in editor.execute("SELECT id FROM artist ORDER BY id LIMIT 2").fetchall()]
        slow.execute("BEGIN")
        slow.execute("UPDATE artist SET comment = 'slow' WHERE id = %s", (other,))
        editor.execute("UPDATE artist SET name = name || ' again', comment = E'\\t\\\\N' WHERE id = %s", (one,))
        editor.execute(
            "INSERT INTO artist (id, gid, name, sort_name) "
            "SELECT coalesce(max(id), 0) + 1, gen_random_uuid(), 'New ' || max(id), 'New' FROM artist"
        )
        editor.execute("DELETE FROM artist_alias WHERE id = (SELECT min(id) FROM artist_alias)")
        slow.execute("UPDATE artist SET comment = 'the last word' WHERE id = %s", (one,))
        slow.execute("COMMIT")


def test_mbslave_follows_our_feed_and_its_database_equals_the_masters(site: Site, tmp_path: Path) -> None:
    for _ in range(2):
        edit(site)
        assert "replication-" in site.run("replication", "export", "--json")
    url = site.mirrors[1]
    with psycopg.connect(url, autocommit=True) as mirror:
        mirror.execute(mbslave_tables())
        web = site.serve()
        _mbslave(site, url, tmp_path)
        assert web.end() in (0, 130)
        with site.home.connect() as master:
            assert differing(master, mirror) == []
        assert mirror.execute("SELECT current_replication_sequence FROM replication_control").fetchone() == (2,)


def _mbslave(site: Site, url: str, folder: Path) -> None:
    where = conninfo_to_dict(url)
    config = folder / "mbslave.conf"
    config.write_text(
        f"[database]\nhost={where['host']}\nport={where.get('port', 5432)}\nname={where['dbname']}\n"
        f"user={where['user']}\n[musicbrainz]\nbase_url={site.feed}\ntoken={site.token}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "from mbslave.replication import main; main()", "-c", str(config), "sync"],
        env={name: value for name, value in os.environ.items() if not name.startswith(("PG", "MBSLAVE"))},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
