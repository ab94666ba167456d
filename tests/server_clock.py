"""The wall clock of a server, set while it runs: Debian's libfaketime, from a file. The monotonic one is left alone."""

import os
from pathlib import Path

import pytest

PLACES = ("lib/*/faketime/libfaketime.so.1", "lib*/faketime/libfaketime.so.1")


class ServerClock:
    """Right at first; `set` it so many seconds ahead (negative: behind). Without the library it has no effect."""

    def __init__(self, folder: Path) -> None:
        self._library = next((each for pattern in PLACES for each in Path("/usr").glob(pattern)), None)
        self._file = folder / "clock"
        self.set(0)

    def set(self, ahead: float) -> None:
        # The server may read at any moment.
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead:+.3f}")
        new.replace(self._file)

    def environment(self) -> dict[str, str]:
        """What a process is started with to have this clock."""
        if self._library is None:
            return {}
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            # The second is the name in versions before 0.9.10.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def require(self) -> None:
        """Of a test that sets it."""
        if self._library is None:
            missing = "The clock of a server cannot be set: install Debian's libfaketime."
            if os.environ.get("CI"):
                pytest.fail(missing)
            pytest.skip(missing)
