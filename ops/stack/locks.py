"""Locks between processes that use the same home: held by the kernel, so that none outlives its holder."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.stack.errors import EmbeddedServerError


class FileLock:
    """A flock; the file stays behind empty, for removing it would let two processes hold 'the' lock."""

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self.path = path
        self._mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Take it if it is free."""
        if self._fd is not None:
            return True
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except PermissionError:
            raise EmbeddedServerError(
                f"{self.path} belongs to another user. Start as the user who owns it, "
                "or set MBEVENTS_HOME to a folder of your own."
            ) from None
        except OSError as error:
            raise EmbeddedServerError(
                f"{self.path.parent} cannot be the servers' home ({error.strerror}). Set MBEVENTS_HOME to a folder."
            ) from None
        try:
            fcntl.flock(fd, self._mode | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @contextmanager
    def held(self, timeout: float) -> Iterator[None]:
        """Wait for it, at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not self.acquire():
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"Another process has been starting or stopping the servers in {self.path.parent} for over "
                    f"{timeout:.0f} s. Wait for it or stop it, and try again."
                )
            time.sleep(0.02)
        try:
            yield
        finally:
            self.release()
