"""What the feed depends on: a database and a store, which may be away, or elsewhere."""

from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql

from ops.settings import Settings
from ops.wiring import Runtime
from tests.integration.ops.feed.conftest import CONTENT, NO_PACKET, V1, V2, WRONG_TOKEN, Put, told
from tests.waiting import wait_for


def test_a_database_that_is_away_is_told_and_found_again(
    alice: httpx.Client, settings: Settings, runtime: Runtime, put: Put
) -> None:
    put(V1)
    assert alice.get(f"/{V1}").status_code == 200
    with psycopg.connect(runtime.database_url) as connection:
        name = connection.info.dbname
    with psycopg.connect(runtime.database_url.replace(name, "postgres"), autocommit=True) as connection:
        closed = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        connection.execute(closed.format(sql.Identifier(name), sql.Literal(False)))
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        wait_for(lambda: alice.get(f"/{V1}").status_code == 503, seconds=20)
        answer = alice.get(f"/{V1}")
        assert told(answer) == (503, "The feed cannot reach its database or its packets now. Try again later.\n")
        assert int(answer.headers["retry-after"]) > 0
        assert alice.get("/replication-check").text == "OK"
        connection.execute(closed.format(sql.Identifier(name), sql.Literal(True)))
    wait_for(lambda: alice.get(f"/{V1}").status_code == 200, seconds=20)


def test_a_database_without_our_tables_is_no_traceback(alice: httpx.Client, runtime: Runtime, put: Put) -> None:
    put(V1)
    with runtime.connection() as connection:
        connection.execute("DROP TABLE mbevents.feed_token")
    wait_for(lambda: alice.get(f"/{V1}").status_code == 503)


def test_a_store_that_cannot_be_read_is_told(alice: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "packets").write_text("a file, not a folder")
    for path in ("/replication-info", f"/{V1}"):
        assert alice.get(path).status_code == 503
    check = alice.get("/replication-check")
    assert told(check) == (200, "UNKNOWN the replication packets cannot be looked at: their store does not answer")
    assert check.headers["content-type"].startswith("text/plain")


@pytest.fixture
def in_s3(bucket: str, settings: Settings, runtime: Runtime) -> str:
    """Has the feed's packets in a bucket."""
    runtime.settings = settings.model_copy(update={"packet_store": f"s3://{bucket}/packets"})
    return bucket


def test_a_client_with_a_token_is_sent_to_the_bucket(in_s3: str, alice: httpx.Client, put: Put, token: str) -> None:
    put(V2)
    answer = alice.get(f"/{V2}")
    assert (answer.status_code, answer.headers["cache-control"]) == (302, "no-store")
    assert token not in answer.headers["location"]
    assert httpx.get(answer.headers["location"]).content == CONTENT
    part = httpx.get(answer.headers["location"], headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, CONTENT[5:10])


def test_all_else_is_answered_here(in_s3: str, alice: httpx.Client, put: Put) -> None:
    put(V2)
    head = alice.head(f"/{V2}")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))
    assert alice.get(f"/{V2}", headers={"If-None-Match": head.headers["etag"]}).status_code == 304
    assert told(alice.get(f"/{V1}")) == (404, NO_PACKET)
    assert told(alice.get(f"/{V2}", params={"token": "x" * 40})) == (403, WRONG_TOKEN)
    wait_for(lambda: alice.get("/replication-info").text == '{"last_packet": "replication-7.tar.bz2"}')
    wait_for(lambda: alice.get("/replication-check").text == "OK")


def test_a_bucket_that_is_gone_is_told(in_s3: str, alice: httpx.Client) -> None:
    import boto3

    boto3.session.Session().client("s3").delete_bucket(Bucket=in_s3)
    assert alice.get("/replication-info").status_code == 503
    assert alice.get("/replication-check").text.startswith("UNKNOWN the replication packets cannot be looked at")
