"""What can go wrong with the embedded servers, told so that the reader can act."""

import shutil
from pathlib import Path

from events.errors import MbeventsError

# In the server's words: it runs with LC_ALL=C, so that they are always these.
_FULL = ("No space left on device", "Disk quota exceeded")
_NEARLY_NOTHING = 512 * 1024


class EmbeddedServerError(MbeventsError):
    """An embedded server cannot be set up, started or stopped."""


class DiskFullError(MbeventsError):
    """A server has no room left for its data."""


def disk_full(folder: Path, *texts: str) -> DiskFullError | None:
    """The error to raise when a failure in `folder` was a full disk; `texts` is what the server said.

    The log often lies on the same disk and is then cut short, so the free space is asked as well.
    """
    usage = shutil.disk_usage(existing(folder))
    if not any(words in text for words in _FULL for text in texts) and usage.free > _NEARLY_NOTHING:
        return None
    return DiskFullError(
        f"The disk that holds {folder} is full ({usage.free / 2**20:.0f} MiB of {usage.total / 2**20:.0f} MiB free): "
        "the embedded PostgreSQL cannot store its data. Make room (about 300 MiB are needed at first) and start again, "
        "or set MBEVENTS_HOME to a folder on another disk. Nothing that was committed is lost."
    )


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder
