"""A table that readers need is locked: who asks for it is told so soon, and nobody else notices."""

import threading
import time

import psycopg
import pytest

from ops.settings import Settings
from ops.wiring import Runtime, caches
from tests.integration.ops.test_web import get

ARTIST = "/entity/artist/8970d868-0723-483b-a75b-51088913d3d4"
# More than the web has threads.
READERS = 50


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(caches, "_READING_SECONDS", 1)
    return settings.model_copy(update={"web_rate_limit": 0})


def test_readers_of_a_locked_table_keep_nobody_else_waiting(runtime: Runtime, port: int) -> None:
    answers: list[int] = []
    with psycopg.connect(runtime.database_url) as locker:
        locker.execute("LOCK TABLE musicbrainz.artist IN ACCESS EXCLUSIVE MODE")
        readers = [threading.Thread(target=lambda: answers.append(get(port, ARTIST)[0])) for _ in range(READERS)]
        for reader in readers:
            reader.start()
        time.sleep(0.5)
        began = time.monotonic()
        for path in ("/healthz", "/readyz", "/statistics", "/session"):
            assert get(port, path)[0] == 200
        assert time.monotonic() - began < 1.5
        for reader in readers:
            reader.join(30)
        locker.rollback()
    assert set(answers) == {503}
    assert get(port, ARTIST)[0] == 200
