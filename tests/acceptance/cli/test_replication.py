import json
import urllib.error
import urllib.request
from pathlib import Path

from tests.acceptance.cli.conftest import Home, wait_until


def fetched(home: Home, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{home.web}/api/musicbrainz/{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except urllib.error.URLError:
        return 0, ""


def test_a_token_is_told_once_opens_the_feed_until_it_is_revoked_and_is_in_no_log(home: Home, tmp_path: Path) -> None:
    (tmp_path / "replication-7.tar.bz2").write_text("a packet")
    created = home.run("replication", "token", "create", "alice", "--json")
    assert created.code == 0, created.err
    token = json.loads(created.out)["token"]
    plain = home.run("replication", "token", "create", "bob")
    assert len(plain.out.strip()) == 40
    assert "not shown again" in plain.err
    assert "REPLICATION_TYPE is RT_STANDALONE: these tokens open the feed of this database's" in plain.err
    told = home.run("replication", "token", "list", environment={"REPLICATION_TYPE": "RT_MASTER"}).err
    assert told == "2 tokens.\n"
    listed = home.run("replication", "token", "list", "--json")
    assert [each["name"] for each in json.loads(listed.out)["tokens"]] == ["alice", "bob"]
    assert "alice" in home.run("replication", "token", "list").out
    assert token not in listed.out

    web = home.start("web", environment={"PACKET_STORE": tmp_path.as_uri(), "LOG_LEVEL": "DEBUG"})
    packet = f"replication-7.tar.bz2?token={token}"
    assert wait_until(lambda: fetched(home, "replication-check")[0] == 200), web.err
    assert fetched(home, packet) == (200, "a packet")
    assert fetched(home, f"replication-info?token={plain.out.strip()}")[0] == 200
    revoked = home.run("replication", "token", "revoke", "alice")
    assert revoked.code == 0
    assert wait_until(lambda: fetched(home, packet)[0] == 403, 5)
    assert home.run("replication", "token", "revoke", "alice").code == 4
    assert home.run("replication", "token", "create", "bob").code == 2
    assert home.run("replication", "token", "revoke", "bob", "--json").out.strip() == '{"revoked": "bob"}'
    assert web.end() in (0, 130)
    assert token not in web.err + web.out


def test_a_store_that_is_none_is_refused_before_anything_starts(home: Home) -> None:
    done = home.run("web", environment={"PACKET_STORE": "/srv/packets"})
    assert done.code == 2
    assert "PACKET_STORE '/srv/packets' is wrong (from environment): it must begin with file:/// or s3://" in done.err
