import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from events.errors import MbeventsError, UnreachableError
from workers.replication.store import open_store

NAME = "replication-7-v2.tar.bz2"


class Answers(BaseHTTPRequestHandler):
    """An S3 server of few words: a status and a body for everything, and a list of what it was asked."""

    status = 200
    body = b""
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.command)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.status)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.body)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.do_GET
        raise AttributeError(name)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def odd_server(s3: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Answers]]:
    handler = type("Handler", (Answers,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        # Its plain form: checksums after the body come in chunks, which this server does not read.
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        yield handler
        server.shutdown()
        thread.join(10)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(b"content")
    return tmp_path / "source"


def test_large_files_go_up_in_parts(bucket: str, source: Path) -> None:
    store = open_store(f"s3://{bucket}")
    source.write_bytes(b"x" * 20_000_000)
    store.put(NAME, source)
    found = store.stat(NAME)
    assert found is not None
    assert found.etag.endswith("-3"), "the mark of three parts"
    assert found.size == 20_000_000


def test_an_endpoint_of_ones_own_has_the_bucket_in_the_path(bucket: str, s3_server: str) -> None:
    url = open_store(f"s3://{bucket}/a/b").url(NAME, seconds=60)
    assert url is not None
    assert url.startswith(f"{s3_server}/{bucket}/a/b/{NAME}?")
    assert "X-Amz-Expires=60" in url


def test_what_else_is_in_the_bucket_is_none_of_ours(bucket: str, source: Path) -> None:
    import boto3

    client = boto3.session.Session().client("s3")
    for key in (f"packets/sub/{NAME}", f"other/{NAME}", "packets/README", f"packets-{NAME}", NAME):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    assert open_store(f"s3://{bucket}/packets").list() == []
    assert [each.name for each in open_store(f"s3://{bucket}").list()] == [NAME]


def test_more_files_than_one_answer_lists_are_listed(
    bucket: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    store = open_store(f"s3://{bucket}")
    names = [f"replication-{number}.tar.bz2" for number in range(5)]
    for name in names:
        store.put(name, source)
    assert [each.name for each in store.list()] == names


def test_what_comes_back_changed_is_deleted_and_told(odd_server: type[Answers], source: Path) -> None:
    odd_server.body = b"changed"
    with pytest.raises(MbeventsError, match=f"s3://bucket/p/{NAME} came back changed"):
        open_store("s3://bucket/p").put(NAME, source)
    assert odd_server.asked == ["PUT", "GET", "DELETE"]


def test_credentials_that_are_refused_are_told(odd_server: type[Answers], source: Path) -> None:
    odd_server.status = 403
    store = open_store("s3://bucket")
    for use in (lambda: store.stat(NAME), store.list, lambda: store.read(NAME), lambda: store.put(NAME, source)):
        with pytest.raises(MbeventsError, match=r"refuses s3://bucket/.* Check AWS_ACCESS_KEY_ID"):
            use()


def test_a_server_in_trouble_is_tried_again_and_then_told(odd_server: type[Answers]) -> None:
    odd_server.status = 503
    with pytest.raises(UnreachableError, match="cannot answer now"):
        open_store("s3://bucket").stat(NAME)
    assert odd_server.asked == ["HEAD"] * 4


def test_a_server_that_is_away_is_told(s3: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match=r"no connection to it can be made\. .*AWS_ENDPOINT_URL_S3"):
        open_store("s3://bucket").list()


def test_a_bucket_that_is_not_there_is_told(s3: None, source: Path) -> None:
    store = open_store("s3://no-such-bucket")
    for use in (store.list, lambda: store.put(NAME, source)):
        with pytest.raises(MbeventsError, match="There is no bucket no-such-bucket"):
            use()


def test_missing_credentials_are_told(s3: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(MbeventsError, match="needs credentials and a region: set AWS_ACCESS_KEY_ID"):
        open_store("s3://bucket").list()


def test_a_store_in_s3_is_made_without_asking_the_server(s3: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert open_store("s3://bucket").path(NAME) is None
