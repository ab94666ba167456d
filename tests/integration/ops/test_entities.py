"""What the web process tells of entities, on real servers."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from events.queues.worker import run_worker
from ops.settings import Settings
from ops.web import entities
from ops.wiring import Runtime, open_runtime
from schemas.values import ENTITY_TYPES
from tests.browsing import Browser
from tests.waiting import wait_for
from workers.caches.search import adapters
from workers.caches.search.adapters import search_query

TRENTEMOLLER = "95e9aba6-f85c-48a0-9ec9-395d4f0e3875"
OLD = "00000000-0000-4000-8000-000000000001"
UNKNOWN = "00000000-0000-4000-8000-000000000002"


def client_of(runtime: Runtime) -> Browser:
    app = FastAPI(redirect_slashes=False)
    entities.register(app, runtime.entity_cache, runtime.load_entity, runtime.searches)
    return Browser(app)


@pytest.fixture
def client(runtime: Runtime) -> Browser:
    return client_of(runtime)


@pytest.fixture
def without_redis(settings: Settings) -> Iterator[Browser]:
    """Nobody listens where Redis should be."""
    with open_runtime(settings.model_copy(update={"redis_server": SecretStr("redis://127.0.0.1:1")})) as parts:
        yield client_of(parts)


@pytest.fixture
def without_database(settings: Settings) -> Iterator[Browser]:
    """The same Redis, and nobody listens where PostgreSQL should be."""
    nowhere = SecretStr("postgresql://nobody:s3cret@127.0.0.1:1/nothing")
    with open_runtime(settings.model_copy(update={"database_url": nowhere})) as parts:
        parts.pool.timeout = 0.2
        yield client_of(parts)


def execute(runtime: Runtime, statement: str, *parameters: Any) -> Any:
    with runtime.connection() as connection:
        cursor = connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else None


def digest(runtime: Runtime) -> None:
    """Let what was committed become events, and those their effects."""
    runtime.bridge.drain()
    run_worker(runtime.worker_broker, threads=1, stop=threading.Event(), drain=True)


def names(client: Browser, entity_type: str, name: str) -> list[tuple[str, str]]:
    answer = client.get(f"/entity/{entity_type}", params={"name": name})
    assert answer.status_code == 200, answer.text
    return [(each["name"], each["matched"]) for each in answer.json()["entities"]]


def test_an_entity_is_told_as_json_and_a_copy_of_it_is_asked_about(client: Browser) -> None:
    first = client.get(f"/entity/artist/{TRENTEMOLLER.upper()}")
    assert (first.status_code, first.headers["content-type"]) == (200, "application/json")
    assert first.json()["gid"] == TRENTEMOLLER
    assert first.headers["cache-control"] == "no-cache"
    again = client.get(f"/entity/artist/{TRENTEMOLLER}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])


def test_every_type_has_an_address_and_a_search(client: Browser, runtime: Runtime) -> None:
    with runtime.connection() as connection:
        # What the sample has none of, without what else it would need.
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "INSERT INTO musicbrainz.series (gid, name, type, ordering_type) VALUES (gen_random_uuid(), 'S', 1, 1)"
        )
        for entity_type in ("event", "genre", "instrument", "place"):
            connection.execute(f"INSERT INTO musicbrainz.{entity_type} (gid, name) VALUES (gen_random_uuid(), 'One')")
    for entity_type in ENTITY_TYPES:
        column = "url" if entity_type == "url" else "name"
        ((mbid, name),) = execute(runtime, f"SELECT gid::text, {column} FROM musicbrainz.{entity_type} LIMIT 1")
        written = entity_type.replace("_", "-")
        for each in (written, entity_type):
            assert client.get(f"/entity/{each}/{mbid}").json()["gid"] == mbid
        found = client.get(f"/entity/{written}", params={"name": name}).json()
        assert mbid in [each["mbid"] for each in found["entities"]]


@pytest.mark.parametrize("name", ["Two  spaces", "\u5168\u89d2\u3000\u7a7a\u767d", "No\u00a0break"])
@pytest.mark.parametrize("entity_type", ["artist", "work"])
def test_a_name_is_found_whatever_spaces_it_has(client: Browser, runtime: Runtime, entity_type: str, name: str) -> None:
    execute(
        runtime,
        f"INSERT INTO musicbrainz.{entity_type} (gid, name{', sort_name' * (entity_type == 'artist')}) "
        f"VALUES (gen_random_uuid(), %s{', %s' * (entity_type == 'artist')})",
        *[name] * (1 + (entity_type == "artist")),
    )
    assert names(client, entity_type, name) == [(name, "name")]


def test_an_old_mbid_leads_to_the_one_that_the_entity_has(client: Browser, runtime: Runtime) -> None:
    execute(
        runtime,
        "INSERT INTO musicbrainz.release_group_gid_redirect (gid, new_id) "
        "SELECT %s, id FROM musicbrainz.release_group ORDER BY id LIMIT 1",
        OLD,
    )
    ((now,),) = execute(runtime, "SELECT gid::text FROM musicbrainz.release_group ORDER BY id LIMIT 1")
    answer = client.get(f"/entity/release-group/{OLD}")
    assert (answer.status_code, answer.headers["location"]) == (301, f"/entity/release-group/{now}")
    assert answer.headers["cache-control"] == "no-cache"
    many = client.get("/entity/release_group", params={"mbid": [OLD, now, UNKNOWN]}).json()["entities"]
    assert [(each["mbid"], each["entity"] and each["entity"]["gid"]) for each in many] == [
        (OLD, now),
        (now, now),
        (UNKNOWN, None),
    ]


NONSENSE = [
    (f"/entity/artist/{UNKNOWN}", 404),
    (f"/entity/wrong/{UNKNOWN}", 404),
    ("/entity/wrong?name=x", 404),
    ("/entity/artist/", 400),
    ("/entity/artist/..%2F..%2Fetc%2Fpasswd", 400),
    (f"/entity/artist/{TRENTEMOLLER}%00", 400),
    (f"/entity/artist/{TRENTEMOLLER}/releases", 400),
    ("/entity/artist", 400),
    ("/entity/artist?mbid=", 400),
    ("/entity/artist?" + "&".join(["mbid"] * 10_000), 400),
    ("/entity/artist?" + "&".join([f"mbid={UNKNOWN}"] * 101), 400),
    (f"/entity/artist?name=x&mbid={UNKNOWN}", 400),
    ("/entity/artist?name=x&name=y", 400),
    ("/entity/artist?name=", 400),
    ("/entity/artist?name=%20%09", 400),
    ("/entity/artist?name=a%00b", 400),
    ("/entity/artist?name=" + "a" * 5_000, 400),
]


def test_what_makes_no_sense_is_a_problem_and_no_error(client: Browser) -> None:
    for path, status in NONSENSE:
        answer = client.get(path)
        assert (answer.status_code, answer.json()["status"]) == (status, status), path[:60]
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.text) < 500


def test_any_name_may_be_searched_for(client: Browser) -> None:
    for name in ("%", "' OR true --", "\\", "!!!", "a | b & !c:*", "\ufffd\u202e", "a" * 2_700):
        for entity_type in ("artist", "recording", "genre", "url"):
            assert names(client, entity_type, name) == []


def test_a_search_finds_by_name_and_alias_whatever_the_case(client: Browser, runtime: Runtime) -> None:
    for name in ("trentemøller", "TRENTEMØLLER ", "Trentemo\u0308ller"):
        expected = [("Trentemøller", "name")] if "ø" in name.lower() else []
        assert names(client, "artist", name) == expected
    execute(runtime, "INSERT INTO musicbrainz.genre (gid, name) VALUES (%s, 'Pop')", OLD)
    for entity_type in ("artist", "recording", "genre"):
        ((row, name),) = execute(runtime, f"SELECT id, name FROM musicbrainz.{entity_type} ORDER BY id DESC LIMIT 1")
        for alias in ("Élan Vital", "?!"):
            execute(
                runtime,
                f"INSERT INTO musicbrainz.{entity_type}_alias ({entity_type}, name, sort_name) VALUES (%s, %s, %s)",
                row,
                alias,
                alias,
            )
        assert names(client, entity_type, "ÉLAN vital") == [(name, "alias")]
        # Accents are no matter of case.
        assert names(client, entity_type, "elan vital") == []
        # An alias without a word may not be found; then it is not said that there is none.
        found = client.get(f"/entity/{entity_type}", params={"name": "?!"}).json()
        assert ([(each["name"], each["matched"]) for each in found["entities"]] == [(name, "alias")]) is found[
            "complete"
        ]
    execute(runtime, "UPDATE musicbrainz.recording SET name = '!!!' WHERE id = %s", row_of(runtime, "recording"))
    assert names(client, "recording", "!!!") == [("!!!", "name")]


def row_of(runtime: Runtime, entity_type: str) -> int:
    ((row,),) = execute(runtime, f"SELECT max(id) FROM musicbrainz.{entity_type}")
    return int(row)


def test_of_a_name_that_very_many_have_the_first_are_told(client: Browser, runtime: Runtime) -> None:
    execute(
        runtime,
        "INSERT INTO musicbrainz.work (gid, name) SELECT gen_random_uuid(), 'Intro' FROM generate_series(1, 101)",
    )
    found = client.get("/entity/work?name=intro").json()
    assert (len(found["entities"]), found["complete"]) == (100, False)


def test_a_search_reads_no_whole_table(runtime: Runtime) -> None:
    for entity_type in ("area", "artist", "event", "label", "place", "recording", "release", "release_group", "work"):
        with runtime.connection() as connection:
            connection.execute("SET enable_seqscan = off")
            for query in (search_query(entity_type), search_query(entity_type, words=True)):
                asked = {"name": "moby", "spellings": ["moby", "Moby"], "limit": 101}
                told = "\n".join(line for (line,) in connection.execute(b"EXPLAIN " + query, asked).fetchall())
                assert "Seq Scan" not in told, told


def test_a_long_name_is_found_by_its_words_whatever_the_case(client: Browser, runtime: Runtime) -> None:
    add_works(runtime, "Sir, How Are Those Letters Written?", "Sir how are those letters written", "Straße")
    assert names(client, "work", "sIR, HOW aRE tHOSE LETTERS wRITTEN?") == [
        ("Sir, How Are Those Letters Written?", "name")
    ]
    assert names(client, "work", "sTRAßE") == [("Straße", "name")]


def test_of_a_long_name_whose_words_too_many_have_those_spelt_as_usual_are_told(
    client: Browser, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "WORDS_SECONDS", 0.001)
    add_works(runtime, "Words That Too Many Have", "WORDS that too many Have")
    execute(
        runtime,
        "INSERT INTO musicbrainz.work (gid, name) "
        "SELECT gen_random_uuid(), 'Words That Too Many Have ' || i FROM generate_series(1, 3000) AS i",
    )
    found = client.get("/entity/work", params={"name": "words that TOO many have"}).json()
    assert ([each["name"] for each in found["entities"]], found["complete"]) == (["Words That Too Many Have"], False)


def add_works(runtime: Runtime, *names: str) -> None:
    for name in names:
        execute(runtime, "INSERT INTO musicbrainz.work (gid, name) VALUES (gen_random_uuid(), %s)", name)


def test_a_cached_search_is_right_at_once_when_an_entity_changes(client: Browser, runtime: Runtime) -> None:
    """Found and not found are both cached; both change with the event, and not before."""
    assert names(client, "artist", "Anders T.") == []
    assert names(client, "artist", "trentemøller") == [("Trentemøller", "name")]
    recordings = client.get("/entity/recording", params={"name": recorded(runtime)}).json()
    execute(runtime, "UPDATE musicbrainz.artist SET name = 'Anders T.' WHERE gid = %s", TRENTEMOLLER)
    execute(runtime, "UPDATE musicbrainz.artist_credit SET name = 'Anders T.' WHERE name = 'Trentemøller'")
    assert names(client, "artist", "Anders T.") == []
    digest(runtime)
    assert names(client, "artist", "Anders T.") == [("Anders T.", "name")]
    assert names(client, "artist", "trentemøller") == []
    again = client.get("/entity/recording", params={"name": recorded(runtime)}).json()
    assert recordings["entities"][0]["artist_credit"] == "Trentemøller"
    assert again["entities"][0]["artist_credit"] == "Anders T."


def recorded(runtime: Runtime) -> str:
    """A recording by Trentemøller alone."""
    ((name,),) = execute(
        runtime,
        "SELECT r.name FROM musicbrainz.recording r JOIN musicbrainz.artist_credit c ON c.id = r.artist_credit "
        "WHERE c.artist_count = 1 AND c.id IN (SELECT artist_credit FROM musicbrainz.artist_credit_name n "
        "JOIN musicbrainz.artist a ON a.id = n.artist WHERE a.gid = %s) ORDER BY r.id LIMIT 1",
        TRENTEMOLLER,
    )
    return str(name)


def test_without_redis_everything_is_answered_from_the_database(without_redis: Browser) -> None:
    assert without_redis.get(f"/entity/artist/{TRENTEMOLLER}").json()["name"] == "Trentemøller"
    assert without_redis.get(f"/entity/artist?mbid={TRENTEMOLLER}").json()["entities"][0]["entity"] is not None
    assert names(without_redis, "artist", "Trentemøller") == [("Trentemøller", "name")]


def test_without_the_database_what_is_cached_is_answered_and_the_rest_later(
    client: Browser, without_database: Browser
) -> None:
    client.get(f"/entity/artist/{TRENTEMOLLER}")
    names(client, "artist", "Moby")
    assert without_database.get(f"/entity/artist/{TRENTEMOLLER}").status_code == 200
    assert names(without_database, "artist", "moby") == [("Moby", "name")]
    for path in (f"/entity/artist/{UNKNOWN}", f"/entity/artist?mbid={UNKNOWN}", "/entity/artist?name=nobody"):
        answer = without_database.get(path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "s3cret" not in answer.text


def test_searches_that_take_long_leave_connections_to_others(
    client: Browser, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "SECONDS", 1)
    client.get(f"/entity/label?mbid={UNKNOWN}")
    statuses: list[int] = []
    with runtime.connection() as blocker, blocker.transaction():
        blocker.execute("LOCK TABLE musicbrainz.artist")
        searching = [
            threading.Thread(
                target=lambda name=name: statuses.append(client.get(f"/entity/artist?name={name}").status_code)
            )
            for name in range(6)
        ]
        for each in searching:
            each.start()
        # More than the pool has connections want one, and yet:
        wait_for(lambda: waiting_for_locks(runtime) == 2)
        label = execute(runtime, "SELECT gid::text FROM musicbrainz.label LIMIT 1")[0][0]
        assert client.get(f"/entity/label/{label}").status_code == 200
        for each in searching:
            each.join(20)
    assert statuses == [503] * 6


def waiting_for_locks(runtime: Runtime) -> int:
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'musicbrainz.artist'::regclass"
    return int(execute(runtime, waiting)[0][0])


def test_the_web_process_serves_them(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/entity/artist/{TRENTEMOLLER}", timeout=5) as answer:
        assert json.load(answer)["gid"] == TRENTEMOLLER
