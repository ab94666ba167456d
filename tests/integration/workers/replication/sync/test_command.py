"""`mbevents replication sync`, `pause` and `resume` as a person uses them."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration.workers.replication.conftest import Connection
from tests.integration.workers.replication.sync.command import environment, run, sync
from tests.integration.workers.replication.sync.feed_server import TOKEN, FeedServer

Make = Callable[[int], None]


def test_it_says_what_it_does_for_people_and_for_programs(
    mirror_url: str, packets: Make, feed: FeedServer, tmp_path: Path
) -> None:
    packets(2)
    environ = environment(mirror_url, tmp_path)
    code, out, err = sync(feed, environ, "--limit", "1")
    assert (code, out) == (0, ""), err
    assert "Packet 1: 2 changes in " in err
    assert "the mirror is at 1" in err
    code, out, err = sync(feed, environ, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert (told["from"], told["to"], told["packets"], told["up_to_date"]) == (1, 2, 1, True)


def test_what_goes_wrong_on_the_way_is_said_once(
    mirror_url: str, mirror: Connection, packets: Make, feed: FeedServer, tmp_path: Path
) -> None:
    mirror.execute("DELETE FROM artist WHERE id = (SELECT min(id) FROM artist)")
    hook = tmp_path / "hooks" / "index"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 3\n")
    hook.chmod(0o755)
    packets(1)
    environ = environment(mirror_url, tmp_path, REPLICATION_HOOKS=str(hook.parent))
    code, out, err = sync(feed, environ, "--on-divergence", "repair", "--json")
    assert code == 0, err
    assert (err.count("The hook index failed"), err.count("musicbrainz.artist, row ")) == (1, 1)
    assert '"event"' not in err
    detail = json.loads(out)["details"][0]
    assert detail["hook_problems"] == ["The hook index failed with exit code 3. Packet 1 stays applied."]
    assert detail["divergences"][0]["table"] == "musicbrainz.artist"


def test_a_wrong_address_fails(mirror_url: str, feed: FeedServer, tmp_path: Path) -> None:
    code, out, err = sync(feed, environment(mirror_url, tmp_path))
    assert (code, out) == (1, ""), err
    assert f"There is no feed at {feed.url}" in err
    feed.newest = -1
    code, _, err = sync(feed, environment(mirror_url, tmp_path))
    assert (code, "it is up to date" in err) == (0, True), err


def test_the_token_is_in_nothing_that_it_says(mirror_url: str, packets: Make, feed: FeedServer, tmp_path: Path) -> None:
    packets(1)
    feed.faults += [
        feed.status(500),
        feed.status(302, Location=f"/api/musicbrainz/replication-1-v2.tar.bz2?token={TOKEN}&x=1"),
    ]
    environ = environment(mirror_url, tmp_path, LOG_LEVEL="DEBUG", LOG_FORMAT="json")
    code, out, err = sync(feed, environ, "--follow", "--limit", "1")
    assert code == 0, err
    assert TOKEN not in out + err
    feed.token = "x" * 40
    code, out, err = sync(feed, environ)
    assert code == 1
    assert "does not take the access token (status 403): check REPLICATION_ACCESS_TOKEN" in err
    assert TOKEN not in out + err
    assert feed.asked[0].token == TOKEN


def test_what_it_cannot_do_is_refused_with_what_to_do(
    mirror_url: str, master_url: str, database: str, feed: FeedServer, tmp_path: Path
) -> None:
    environ = environment(mirror_url, tmp_path)
    code, _, err = sync(feed, {**environ, "REPLICATION_TYPE": "RT_MASTER"})
    assert (code, "Packets are applied to a mirror only" in err) == (2, True), err
    code, _, err = run(environ, "sync", "--base-url", "http://metabrainz.org/api/musicbrainz")
    assert (code, "https://" in err) == (2, True), err
    code, _, err = run(environ, "sync", "--base-url", f"https://metabrainz.org/?token={TOKEN}")
    assert (code, TOKEN in err) == (2, False), err
    code, _, err = sync(feed, {**environ, "DATABASE_URL": database})
    assert (code, "Run `mbevents db install`" in err) == (2, True), err
    code, _, err = sync(feed, {**environ, "DATABASE_URL": master_url})
    assert (code, "captures changes, so it is a master" in err) == (2, True), err
    assert feed.asked == []


def test_a_paused_mirror_stands_still(
    mirror_url: str, mirror: Connection, packets: Make, feed: FeedServer, tmp_path: Path
) -> None:
    packets(1)
    environ = environment(mirror_url, tmp_path)
    assert run(environ, "pause")[0] == 0
    code, _, err = sync(feed, environ)
    assert (code, "`mbevents replication resume`" in err) == (2, True), err
    assert feed.asked == []
    assert json.loads(run(environ, "resume", "--json")[1]) == {"paused": False, "changed": True}
    assert sync(feed, environ)[0] == 0


def test_of_two_at_once_every_packet_is_applied_by_one(
    mirror_url: str, mirror: Connection, packets: Make, feed: FeedServer, tmp_path: Path
) -> None:
    packets(4)
    environ = environment(mirror_url, tmp_path)
    with ThreadPoolExecutor(2) as threads:
        ended = [*threads.map(lambda _: sync(feed, environ, "--json"), range(2))]
    assert [code for code, _, _ in ended] == [0, 0], ended
    told = [json.loads(out) for _, out, _ in ended]
    assert sum(each.get("packets", 0) for each in told) == 4
    assert mirror.execute("SELECT current_replication_sequence FROM replication_control").fetchone() == (4,)


def test_who_is_second_does_nothing_and_says_so(
    mirror_url: str, mirror: Connection, packets: Make, feed: FeedServer, tmp_path: Path
) -> None:
    packets(1)
    from events.locks import SYNC_KEY

    mirror.execute("SELECT pg_advisory_lock(%s)", (SYNC_KEY,))
    code, out, err = sync(feed, environment(mirror_url, tmp_path), "--json")
    assert (code, json.loads(out)) == (0, {"held": True}), err
    assert "Another process brings this mirror up to date" in err
    assert feed.asked == []
