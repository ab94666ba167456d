"""An export in a process of its own, killed just before its n-th word with the database or the disk."""

import os
import pathlib
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from workers.replication.export.adapters import opened
from workers.replication.export.service import Exporter
from workers.replication.store.files import FileStore


class Initials:
    """Signs as quickly as nobody else."""

    def sign(self, path: Path, signature: Path) -> None:
        signature.write_text(f"signature of {path.name}")


def exporter(database_url: str, folder: Path) -> Exporter:
    return Exporter(partial(opened, database_url), FileStore(folder / "store"), folder / "spool", signer=Initials())


def export_and_die(database_url: str, folder: Path, moment: int) -> None:
    """Export; SIGKILL at the given moment. After a word is before the next one."""
    moments = iter(range(10**9))

    def mortal(word: Callable[..., Any]) -> Callable[..., Any]:
        def said(*args: Any, **kwargs: Any) -> Any:
            _die_if(next(moments) == moment)
            return word(*args, **kwargs)

        return said

    psycopg.Connection.wait = mortal(psycopg.Connection.wait)  # type: ignore[method-assign]
    os.fsync = mortal(os.fsync)
    pathlib.Path.replace = mortal(pathlib.Path.replace)  # type: ignore[method-assign]
    pathlib.Path.unlink = mortal(pathlib.Path.unlink)  # type: ignore[method-assign]
    exporter(database_url, folder).export()


def _die_if(now: bool) -> None:
    if now:
        os.kill(os.getpid(), signal.SIGKILL)
