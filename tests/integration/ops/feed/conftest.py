"""A feed that is really served, and clients of it."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from ops.settings import Settings
from ops.wiring import Runtime

Put = Callable[..., None]
V1, V2 = "replication-7.tar.bz2", "replication-7-v2.tar.bz2"
CONTENT = bytes(range(256)) * 4000
NO_PACKET = "Can't find specified replication packet!\n"
NO_SIGNATURE = "Can't find signature for a specified replication packet!\n"
WRONG_TOKEN = "Provided access token is invalid!\n"


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"packet_store": f"file://{tmp_path}/packets"})


@pytest.fixture
def put(runtime: Runtime, tmp_path: Path) -> Put:
    def put_into_store(name: str, content: bytes = CONTENT, *, hours: float = 0) -> None:
        (tmp_path / "source").write_bytes(content)
        runtime.packet_store.put(name, tmp_path / "source")
        if hours:
            moment = (datetime.now(UTC) - timedelta(hours=hours)).timestamp()
            os.utime(tmp_path / "packets" / name, (moment, moment))

    return put_into_store


@pytest.fixture
def token(runtime: Runtime) -> str:
    return runtime.feed_tokens.create("alice")


@pytest.fixture
def anybody(port: int) -> Iterator[httpx.Client]:
    """A client without a token."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/musicbrainz", timeout=30) as client:
        yield client


@pytest.fixture
def alice(anybody: httpx.Client, token: str) -> httpx.Client:
    """A client with a token."""
    anybody.params = anybody.params.set("token", token)
    return anybody


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.text
