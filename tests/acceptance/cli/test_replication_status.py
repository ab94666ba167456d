import json
import re
import urllib.request
from html.parser import HTMLParser

import pytest

from tests.acceptance.cli.conftest import Home, wait_until

TOKEN = "s3cretS3cretS3cretS3cretS3cretS3cretS3cr"
MIRROR = {
    "REPLICATION_TYPE": "RT_MIRROR",
    # Nobody listens there.
    "REPLICATION_BASE_URL": "http://127.0.0.1:1/api/musicbrainz",
    "REPLICATION_ACCESS_TOKEN": TOKEN,
}
AWAY = {"DATABASE_URL": "postgresql://u:s3cret@127.0.0.1:1/mb", "REDIS_SERVER": "redis://:s3cret@127.0.0.1:1"}


def replicated(home: Home, *, hours: float, error: str | None = None) -> None:
    """A mirror at packet 41, which is so old; its last pass ended so."""
    with home.connect() as connection:
        connection.execute(
            "UPDATE musicbrainz.replication_control SET current_replication_sequence = 41, "
            "last_replication_date = now() - %s * interval '1 hour'",
            (hours,),
        )
        connection.execute("DELETE FROM mbevents.sync_run")
        connection.execute(
            "INSERT INTO mbevents.sync_run (started_at, ended_at, to_sequence, packets, changes, outcome, error) "
            "VALUES (now() - interval '1 min', now(), 41, 2, 1200, %s, %s)",
            ("failed" if error else "applied", error),
        )


def test_status_says_how_far_a_mirror_is_and_what_its_runs_came_to(home: Home) -> None:
    replicated(home, hours=1, error="no route to postgresql://mb:s3cret@db/mb\nor so")
    done = home.run("replication", "status", environment=MIRROR)
    assert done.code == 0, done.err
    told = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in done.out.partition("\n\n")[0].splitlines())
    assert told["mode"] == "RT_MIRROR"
    assert told["replication sequence"] == "41"
    assert told["upstream's newest packet"] == "unknown: 127.0.0.1:1 does not answer: Connection refused"
    assert told["rate"] == "0.03 packets/s, 20 changes/s"
    assert "failed" in done.out.splitlines()[-1]
    assert "postgresql://mb:***@db/mb or so" in done.out.splitlines()[-1]
    found = json.loads(home.run("replication", "status", "--json", environment=MIRROR).out)
    assert (found["replication_sequence"], found["mirror"]["runs"][0]["changes"]) == (41, 1200)
    assert "s3cret" not in done.out + done.err


@pytest.mark.parametrize(
    ("hours", "arguments", "code", "line"),
    [
        (1, "", 0, r"OK - packet 41 is 60 min old; no sync runs at this moment\|age=36\d\ds;7200;21600;0"),
        (3, "", 1, r"WARNING - packet 41 is 3 h 0 min old; .*\|age=108\d\ds;7200;21600;0"),
        (3, "-w 60 -c 600", 2, r"CRITICAL - packet 41 is 3 h 0 min old; .*\|age=108\d\ds;60;600;0"),
        (1, "-w 60 -c 86400", 1, r"WARNING - packet 41 is 60 min old; .*\|age=36\d\ds;60;86400;0"),
        (1, "--packets -w 2 -c 5", 3, r"UNKNOWN - packet 41 is 60 min old; 127\.0\.0\.1:1 does not answer: .*"),
        (1, "-w 600 -c 60", 3, r"UNKNOWN - the limits are wrong: .*"),
        (1, "-w many -c 60", 3, r"UNKNOWN - Invalid value for '-w' / '--warning': .*"),
        (1, "--warn 60", 3, r"UNKNOWN - No such option: --warn.*"),
    ],
)
def test_check_is_one_line_and_an_exit_code_for_monitoring(
    home: Home, hours: float, arguments: str, code: int, line: str
) -> None:
    replicated(home, hours=hours)
    done = home.run("replication", "check", *arguments.split(), environment=MIRROR)
    assert done.code == code, done.out + done.err
    assert len(done.out.splitlines()) == 1
    assert re.fullmatch(line, done.out.strip()), done.out


def test_check_is_json_for_programs(home: Home, fresh: Home) -> None:
    replicated(home, hours=3)
    done = home.run("replication", "check", "--json", environment=MIRROR)
    found = json.loads(done.out)
    assert (done.code, found["level"], found["code"]) == (1, "WARNING", 1)
    assert found["text"].startswith("packet 41 is 3 h 0 min old")
    assert found["performance"].endswith("s;7200;21600;0")
    away = fresh.run("replication", "check", "--json", environment=AWAY)
    assert (away.code, json.loads(away.out)["level"]) == (3, "UNKNOWN")


def test_a_failed_run_warns_in_one_line(home: Home) -> None:
    replicated(home, hours=0, error="packet 42 | is\nbroken")
    done = home.run("replication", "check", environment=MIRROR)
    assert done.code == 1
    assert "; the last run failed: packet 42 / is broken;" in done.out


def test_what_is_not_replicated_or_not_there_is_unknown(home: Home, fresh: Home) -> None:
    standalone = home.run("replication", "check")
    assert standalone.code == 3
    assert standalone.out == "UNKNOWN - nothing is replicated: REPLICATION_TYPE is RT_STANDALONE\n"
    away = fresh.run("replication", "check", environment=AWAY)
    assert away.code == 3
    assert away.out.startswith("UNKNOWN - PostgreSQL at postgresql://u:***@127.0.0.1:1/mb does not answer")
    wrong = fresh.run("replication", "check", environment={"REPLICATION_TYPE": "RT_SLAVE"})
    assert wrong.code == 3
    assert wrong.out.startswith("UNKNOWN - REPLICATION_TYPE 'RT_SLAVE' is wrong")
    assert "s3cret" not in away.out + away.err


def test_a_master_is_measured_by_what_waits(home: Home) -> None:
    done = home.run("replication", "check", environment={"REPLICATION_TYPE": "RT_MASTER"})
    assert done.code in (1, 2)
    assert "no scheduler runs" in done.out
    assert re.search(r"\|age=\d+s;7200;21600;0$", done.out.strip())
    told = home.run("replication", "status", environment={"REPLICATION_TYPE": "RT_MASTER"}).out
    assert "packets in the store" in told
    assert "changes in no packet yet" in told


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 (the signature is the base's)
        self.names.append(tag)


def test_the_page_is_served_and_an_error_in_it_is_text(home: Home) -> None:
    replicated(home, hours=1, error="<script>alert(1)</script>")
    web = home.start("web", environment=MIRROR)
    address = f"http://{home.web}/replication-status"

    def served() -> bool:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return bool(json.loads(answer.read())["mode"] == "RT_MIRROR")
        except OSError:
            return False

    assert wait_until(served), web.err
    with urllib.request.urlopen(urllib.request.Request(address, headers={"Accept": "text/html"}), timeout=10) as answer:
        text = answer.read().decode()
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    names = Elements(text).names
    assert "table" in names
    assert "script" not in names
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert web.end() in (0, 130)
    assert TOKEN not in text + web.err + web.out
