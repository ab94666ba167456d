"""The embedded servers seen from outside: started to stay, looked at, stopped, removed."""

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

import ops
from ops.stack import processes
from ops.stack.errors import EmbeddedServerError
from ops.stack.keeper import KEPT
from ops.stack.locks import FileLock
from ops.stack.place import folder_of, outside_of
from ops.stack.postgres import EmbeddedPostgres
from ops.stack.redis import EmbeddedRedis

LOCK_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Status:
    """What is there of the servers of one home. `data`: where PostgreSQL's are, None when there are none."""

    home: Path
    data: Path | None
    postgres_pid: int | None
    redis_pid: int | None
    kept: bool
    in_use: bool


def data_folder(home: Path) -> Path | None:
    """Where a home's PostgreSQL has its data, if they were ever made."""
    home = folder_of(home)
    for folder in (home, outside_of(home)):
        if (folder / "postgres").exists():
            return folder / "postgres"
    return None


def is_home(home: Path) -> bool:
    """Whether embedded servers were ever started in this folder: their Redis alone leaves no data."""
    return (home / "start.lock").exists()


def status(home: Path) -> Status:
    """Look, and change nothing."""
    home = folder_of(home)
    data = data_folder(home)
    if not home.exists():
        return Status(home, data, None, None, kept=False, in_use=False)
    postgres = EmbeddedPostgres(home).pid if data is not None else None
    alone = FileLock(home / "users.lock")
    in_use = not alone.acquire()
    alone.release()
    return Status(home, data, postgres, EmbeddedRedis(home).pid, kept=(home / KEPT).exists(), in_use=in_use)


def stop(home: Path) -> bool:
    """Stop servers that were started to stay; True if any ran. Raises while other processes use them."""
    home = folder_of(home)
    if not home.exists():
        return False
    with FileLock(home / "start.lock").held(LOCK_SECONDS):
        alone = FileLock(home / "users.lock")
        (home / KEPT).unlink(missing_ok=True)
        if not alone.acquire():
            raise EmbeddedServerError(
                f"The servers in {home} are in use. They stop by themselves when the last process that uses them "
                "ends: end those (`mbevents up`, a worker, a demo)."
            )
        try:
            return stop_servers(home)
        finally:
            alone.release()


# All that the servers and their keeper make in a home, or in the folder outside that serves it.
OURS = (
    "postgres",
    "postgres.unfinished",
    "postgres.broken-*",
    "postgres.log*",
    "redis",
    "redis.log*",
    "run",
    "wheel-*",
    KEPT,
    "start.lock",
    "users.lock",
    "build.lock",
    "keeper.lock",
)


def destroy(home: Path, progress: Callable[[str], None] = lambda _: None) -> bool:
    """Stop the servers and remove all that they made; True if there was anything. What others put there stays."""
    home = folder_of(home)
    outside = outside_of(home)
    if not home.exists() and not outside.exists():
        return False
    # A mistyped MBEVENTS_HOME must not cost anybody a folder of their own.
    if home.exists() and any(home.iterdir()) and not is_home(home):
        raise EmbeddedServerError(
            f"{home} is not a home of embedded servers: it holds other things. Nothing is removed."
        )
    stop(home)
    for folder in (home, outside):
        if folder.exists():
            progress(f"Removing the servers' data in {folder}.")
            _remove_ours(folder)
    return True


def _remove_ours(folder: Path) -> None:
    for pattern in OURS:
        for path in folder.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    # The home may be a folder that somebody had already, with things of theirs.
    with contextlib.suppress(OSError):
        folder.rmdir()


def stop_servers(home: Path) -> bool:
    """Stop what runs and end its keeper; the caller holds the locks. True if any ran."""
    redis = EmbeddedRedis(home)
    postgres = EmbeddedPostgres(home) if data_folder(home) is not None else None
    ran = redis.pid is not None or (postgres is not None and postgres.pid is not None)
    redis.stop()
    if postgres is not None:
        postgres.stop()
    return ran


def ensure_keeper(home: Path) -> None:
    """Have a keeper for the servers; the caller holds `start.lock` and uses them."""
    lock = FileLock(home / "keeper.lock")
    # One that was started a moment ago has not locked yet.
    if (home / KEPT).exists() or _keeper(home) is not None or not lock.acquire():
        return
    lock.release()
    script = Path(__file__).with_name("keeper.py")
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", str(script), str(home), str(Path(ops.__file__).parents[1])],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    (home / "keeper.lock").write_text(str(child.pid))
    processes.disown(child)


def end_keeper(home: Path) -> None:
    """Once the servers are stopped nothing is to stay: not even for a second."""
    process = _keeper(home)
    if process is not None:
        processes.stop(process, ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)))


def _keeper(home: Path) -> psutil.Process | None:
    try:
        pid = int((home / "keeper.lock").read_text())
    except (OSError, ValueError):
        return None
    return processes.find(pid, [str(Path(__file__).with_name("keeper.py")), str(home)])
