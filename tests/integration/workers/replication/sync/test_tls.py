"""A feed over TLS: who it is has to be proven before the token goes there."""

import ssl
import threading
from pathlib import Path

import pytest

from events.errors import UnreachableError
from events.telemetry import NoTelemetry
from tests.certificates import certificate
from tests.integration.workers.replication.sync.feed_server import TOKEN, served
from tests.waiting import wait_for
from workers.replication.sync.core import parsed_base
from workers.replication.sync.fetch import Feed, FeedOptions, StoppedError
from workers.replication.sync.spool import Spool

NAME = "replication-7-v2.tar.bz2"


@pytest.mark.parametrize(
    ("address", "trusted", "why"),
    [("127.0.0.1", True, ""), ("127.0.0.1", False, "self-signed"), ("127.0.0.2", True, "IP address mismatch")],
)
def test_the_token_goes_only_to_a_feed_that_proves_who_it_is(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, trusted: bool, why: str
) -> None:
    path = certificate(tmp_path, address)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(path)
    (folder / NAME).write_bytes(b"packet")
    with served(folder, tls) as server:
        spool = Spool(tmp_path / "spool", server.url)
        spool.open()
        feed = Feed(parsed_base(server.url), TOKEN, spool, FeedOptions("test", 1 << 20, 60), NoTelemetry())
        try:
            if why:
                with pytest.raises(UnreachableError, match=why):
                    feed.packet(7)
                assert server.asked == []
            else:
                found = feed.packet(7)
                assert found is not None
                assert found.path.read_bytes() == b"packet"
                spool.drop_packet(7)
                server.faults += [server.stall(3)]
                _is_ended_while_it_waits(feed)
        finally:
            feed.close()
            spool.close()


def _is_ended_while_it_waits(feed: Feed) -> None:
    ended = threading.Event()

    def work() -> None:
        try:
            feed.packet(7)
        except StoppedError:
            ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(lambda: feed._current is not None)
    feed.end()
    assert ended.wait(10)
    thread.join()
