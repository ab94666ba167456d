"""The next packets come while one is applied."""

import queue
import threading

from workers.replication.sync.core import BROKEN
from workers.replication.sync.fetch import Feed, Fetched, StoppedError

# Packets that wait in the spool, beside the one that is applied and the one that comes.
AHEAD = 2
# A server that says nothing is not waited for when we end.
_PATIENCE = 2.0


class Downloads:
    """Packets from `first` on, in their order, until the feed has no more (`up_to_date`) or `most` came. Close it."""

    def __init__(self, feed: Feed, first: int, *, stop: threading.Event, most: int | None = None) -> None:
        self._feed = feed
        self._stop = stop
        self._numbers = range(first, first + most) if most is not None else range(first, 1 << 40)
        self._made: queue.Queue[Fetched | BaseException | None] = queue.Queue(AHEAD)
        self._closed = threading.Event()
        self.up_to_date = False
        self._thread = threading.Thread(target=self._work, name="downloads", daemon=True)
        self._thread.start()

    def next(self) -> Fetched | None:
        """None when there is no more; not to be called then. Raises as Feed.packet."""
        while True:
            try:
                got = self._made.get(timeout=0.2)
            except queue.Empty:
                if self._stop.is_set():
                    raise StoppedError from None
                continue
            if isinstance(got, BaseException):
                raise got
            return got

    def close(self) -> None:
        self._closed.set()
        self._feed.end()
        self._thread.join(_PATIENCE)
        if not self._thread.is_alive():
            self._feed.close()

    def _work(self) -> None:
        try:
            for number in self._numbers:
                # What was broken once may be in the spool from then.
                found = self._feed.packet(number, afresh=number in BROKEN)
                self.up_to_date = found is None
                self._put(found)
                if found is None or self._closed.is_set():
                    return
        except BaseException as error:
            self._put(error)
        else:
            self._put(None)

    def _put(self, what: Fetched | BaseException | None) -> None:
        while not self._closed.is_set():
            try:
                self._made.put(what, timeout=0.1)
            except queue.Full:
                continue
            return
