import io
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.acceptance.cli.conftest import MBEVENTS, OURS, Done
from tests.conftest import TEMPLATE
from tests.integration.workers.replication.sync.feed_server import TOKEN, served
from tests.integration.workers.replication.verify.support import (
    START,
    Pair,
    connect,
    export,
    make_pair,
    unseen,
)
from workers.replication.packet.archive import PacketWriter
from workers.replication.packet.copytext import encode
from workers.replication.verify.service import make_digest


@pytest.fixture
def pair(captured: str, clone: Callable[[str], str]) -> Iterator[Pair]:
    with make_pair(captured, clone(TEMPLATE)) as made:
        yield made


class Mirror:
    """The command line of a mirror's operator, with a packet store that the master shares."""

    def __init__(self, store: Path, database_url: str) -> None:
        self.store = store
        plain = {name: value for name, value in os.environ.items() if not name.startswith((*OURS, "PACKET_"))}
        self.environment = {
            **plain, "DATABASE_URL": database_url, "REPLICATION_TYPE": "RT_MIRROR", "PACKET_STORE": store.as_uri(),
            "REDIS_SERVER": "127.0.0.1:1", "NO_COLOR": "1",
        }  # fmt: skip

    def run(self, *arguments: str, **environment: str) -> Done:
        done = subprocess.run(
            [*MBEVENTS, "replication", *arguments], env={**self.environment, **environment}, cwd=self.store,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def mirror(pair: Pair, tmp_path: Path) -> Mirror:
    return Mirror(tmp_path, pair.mirror_url)


def publish(mirror: Mirror, pair: Pair) -> None:
    with connect(pair.master_url) as connection:
        digest = make_digest(connection, START)
    (mirror.store / f"digest-{START}.json").write_text(digest.model_dump_json())


def test_a_mirror_is_proved_right_and_its_damage_found_and_repaired(mirror: Mirror, pair: Pair) -> None:
    missing = mirror.run("verify")
    assert missing.code == 4
    assert f"There is no digest-{START}.json" in missing.err
    publish(mirror, pair)
    right = mirror.run("verify")
    assert (right.code, right.out[:2]) == (0, "ok")
    assert "Not compared, as no packet carries them: musicbrainz.editor" in right.err

    unseen(pair.mirror, "UPDATE musicbrainz.artist_type SET name = 'wrong' WHERE id = 1")
    wrong = mirror.run("verify")
    assert wrong.code == 1
    assert "FAULT  musicbrainz.artist_type: differs" in wrong.out
    good, bad = wrong.out.splitlines()[-2:]
    assert re.fullmatch(f"ok  [0-9]+ tables with [0-9,]+ rows hold what the master does after packet {START}", good)
    assert bad == "FAULT  1 table does not"
    assert "id from 1 to 1: 1 row expected, 1 found" in wrong.out
    assert mirror.run("verify", "--tables", "artist", "--tables", "statistics.*").code == 0

    away = mirror.run("verify", "--master-url", "postgresql://u:s3cret@127.0.0.1:1/mb")
    assert away.code == 6
    assert "Connection refused" in away.err
    wrong = mirror.run("verify", "--master-url", "mysql://u:s3cret@127.0.0.1/mb")
    assert wrong.code == 2
    assert "--master-url (or REPLICATION_MASTER_URL) is wrong: it must begin with postgresql://" in wrong.err
    absent = mirror.run("verify", "--master-url", pair.master_url.replace(pair.master.info.dbname, "nowhere"))
    assert absent.code == 6
    assert 'database "nowhere" does not exist' in absent.err
    itself = mirror.run("verify", "--master-url", pair.mirror_url)
    assert itself.code == 2
    assert "is the mirror itself" in itself.err
    assert "s3cret" not in away.err + wrong.err
    told = mirror.run("verify", REPLICATION_MASTER_URL=pair.master_url)
    assert told.code == 1
    assert "changed id = '1': name is 'wrong' instead of 'Person'" in told.out
    assert mirror.run("verify", "--repair").code == 2
    assert mirror.run("verify", "--repair", "--master-url", pair.master_url).code == 2
    repaired = mirror.run("verify", "--repair", "--yes", "--master-url", pair.master_url, "--json")
    assert repaired.code == 0
    (table,) = json.loads(repaired.out)["different"]
    assert (table["table"], table["repaired"]) == ("musicbrainz.artist_type", 1)
    assert table["rows"][0]["columns"] == {"name": {"expected": "Person", "found": "wrong"}}
    assert json.loads(mirror.run("verify", "--json").out)["different"] == []
    unseen(pair.mirror, "DELETE FROM musicbrainz.artist_type WHERE id = 1")
    told = mirror.run("verify", "--repair", "--yes", "--master-url", pair.master_url, "--tables", "artist_type")
    assert told.code == 0
    first, *_, last = told.out.splitlines()
    assert first == "repaired  musicbrainz.artist_type: 1 row written; before, 5 rows expected, 4 found"
    assert last == f"ok  1 table with 5 rows holds what the master does after packet {START}"


def test_a_mirror_elsewhere_takes_the_digest_from_the_feed_that_it_follows(
    mirror: Mirror, pair: Pair, tmp_path_factory: pytest.TempPathFactory
) -> None:
    published = tmp_path_factory.mktemp("feed")
    with connect(pair.master_url) as connection:
        (published / f"digest-{START}.json").write_text(make_digest(connection, START).model_dump_json())
    with served(published) as feed:
        environment = {"REPLICATION_BASE_URL": feed.url, "REPLICATION_ACCESS_TOKEN": TOKEN}
        right = mirror.run("verify", **environment)
        assert (right.code, right.out[:2]) == (0, "ok"), right.err
        unseen(pair.mirror, "UPDATE musicbrainz.artist_type SET name = 'wrong' WHERE id = 1")
        assert mirror.run("verify", **environment).code == 1
        (published / f"digest-{START}.json").unlink()
        missing = mirror.run("verify", **environment)
        assert missing.code == 4
        assert f"nor in the feed at {feed.url}" in missing.err
        refused = mirror.run("verify", **environment | {"REPLICATION_ACCESS_TOKEN": "x" * 40})
        assert "token" in refused.err
        assert TOKEN not in right.err + missing.err + refused.err


def test_who_waits_for_the_mirror_is_told(mirror: Mirror, pair: Pair) -> None:
    export(pair.master)
    done = mirror.run("verify", "--wait", "3", "--master-url", pair.master_url)
    assert done.code == 5
    waiting = rf"Waiting for the mirror, which is at packet {START}, its master at {START + 1} … \([0-9]+ s\)"
    assert re.search(waiting, done.err), done.err
    assert done.out == ""


def test_what_is_no_digest_and_what_is_no_mirror_is_refused(mirror: Mirror) -> None:
    for kind in ("RT_MASTER", "RT_STANDALONE"):
        refused = mirror.run("verify", REPLICATION_TYPE=kind)
        assert refused.code == 2
        assert f"REPLICATION_TYPE is {kind}: only a mirror (RT_MIRROR)" in refused.err
    (mirror.store / "digest-100.json").write_text('{"sequence": 100}')
    done = mirror.run("verify")
    assert done.code == 5
    assert "digest-100.json is no digest that this release can read: schema_sequence" in done.err
    assert mirror.run("verify", "--digest", "nowhere.json").code == 4


def test_a_packet_is_inspected(mirror: Mirror) -> None:
    row = [
        b"1",
        b"musicbrainz.artist",
        b"i",
        b"7",
        None,
        b'{"id": 1, "name": "\x1b[2J"}'.replace(b"\x1b", b"\\u001b"),
        None,
        None,
    ]
    target = io.BytesIO()
    with PacketWriter(target, modified=datetime(2026, 1, 1, tzinfo=UTC)) as writer:
        writer.add("REPLICATION_SEQUENCE", b"5\n")
        writer.add("mbdump/pending_data", encode(row))
    file = mirror.store / "replication-5-v2.tar.bz2"
    file.write_bytes(target.getvalue())
    for name in ("5", file.name, str(file)):
        done = mirror.run("inspect", name, "--json")
        assert done.code == 0
        assert json.loads(done.out)["tables"] == {"musicbrainz.artist": {"i": 1}}
    people = mirror.run("inspect", "5")
    assert "mbdump/pending_data" in people.out
    assert "1 change in 1 transaction." in people.err
    rows = mirror.run("inspect", "5", "--rows", "--json", "--limit", "1")
    assert json.loads(rows.out)["Data"]["new"]["id"] == 1
    assert "\x1b" not in mirror.run("inspect", "5", "--rows").out
    found = json.loads(mirror.run("inspect", "5", "--json").out)
    assert (found["sequence"], found["schema_sequence"]) == (5, None)
    assert mirror.run("inspect", "5", "--limit", "1").code == 2
    none = mirror.store / "none"
    none.write_bytes(b"root:x:0")
    assert mirror.run("inspect", str(none)).said.startswith(f"mbevents: {none}: ")
    assert mirror.run("inspect", "6").code == 4
    file.write_bytes(target.getvalue()[:-9])
    cut = mirror.run("inspect", "5")
    assert cut.code == 1
    assert cut.said.startswith("mbevents: replication-5-v2.tar.bz2: ")
