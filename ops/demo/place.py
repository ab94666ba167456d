"""Where the demo runs: a temporary home, and bridge and worker as processes of their own, as `up` has them."""

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR
from types import MappingProxyType

from events.errors import MbeventsError
from ops.settings import Settings
from ops.supervisor import Child, Supervisor, own_command

# What a process says once it does its work, by its name.
_READY = {"bridge": "bridge_leads", "worker": "worker_started"}
_LOG = "processes.log"
_TOLD_BYTES = 3_000
_PREFIX = "mbevents-demo-"
_ENOUGH_BYTES = 2**31
# A demo that runs is younger, or its servers are in use.
_OLD_SECONDS = 600


class ProcessesError(MbeventsError):
    """Bridge or worker do not run as they should."""


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A folder that is gone afterwards, with whatever still ran in it."""
    folder = _folder(os.environ)
    _sweep(folder)
    # The short name leaves room for those of sockets.
    home = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
    try:
        # As root, PostgreSQL runs as another user, who must get in.
        home.chmod(0o755)
        yield home
    finally:
        _remove(home)


def _folder(given: Mapping[str, str]) -> Path:
    """TMPDIR if it is set, else memory if there is enough: a new database is two thousand files."""
    memory = Path("/dev/shm")
    if not given.get("TMPDIR") and memory.is_dir() and shutil.disk_usage(memory).free > _ENOUGH_BYTES:
        return memory
    return Path(tempfile.gettempdir())


def _sweep(folder: Path) -> None:
    """Remove what killed demos left. Their servers are stopped by then."""
    from ops.stack import control

    for home in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, MbeventsError):
            found = home.lstat()
            old = time.time() - found.st_mtime > _OLD_SECONDS
            if old and S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not control.status(home).in_use:
                _remove(home)


def _remove(home: Path) -> None:
    from ops.stack import control

    with contextlib.suppress(MbeventsError):
        control.destroy(home)
    shutil.rmtree(home, ignore_errors=True)


def forget_libpq(environ: MutableMapping[str, str]) -> None:
    """For the demo and the processes that inherit from it. libpq would follow PGHOSTADDR to another server, be it in
    production, whatever host it is given."""
    for name in [name for name in environ if name.startswith("PG")]:
        del environ[name]


def environment(given: Mapping[str, str], home: Path) -> dict[str, str]:
    """For the demo's processes: nothing of what is configured reaches them, be it a database in production."""
    settings = {name.upper() for name in Settings.model_fields}
    ours = settings | {f"{name}_FILE" for name in settings}
    kept = {name: value for name, value in given.items() if name not in ours and not name.startswith("MBEVENTS_")}
    # Fewer threads than at work: two cores are shared by everything here.
    return kept | {"MBEVENTS_HOME": str(home), "LOG_FORMAT": "json", "WORKER_THREADS": "4"}


class _Holdable(Child):
    """A child that is not started again while it is held."""

    held = False
    # Of its own, beside those of all.
    settings: Mapping[str, str] = MappingProxyType({})

    def look(self, environment: Mapping[str, str]) -> None:
        if not (self.held and self.process is None):
            super().look({**environment, **self.settings})


class Processes:
    """Bridge and worker under a supervisor, which starts again what is killed; `later` have to be released first."""

    def __init__(self, home: Path, settings: Mapping[str, str], *, later: Mapping[str, Sequence[str]]) -> None:
        self._log = home / _LOG
        self._output = self._log.open("ab")
        commands: dict[str, Sequence[str]] = {name: [name] for name in _READY} | dict(later)
        # Where no .env lies.
        self._children = {
            name: _Holdable(name, own_command(*command), folder=home, output=self._output)
            for name, command in commands.items()
        }
        self.hold(*later)
        self._environment = environment(os.environ, home) | dict(settings)
        self._stop = threading.Event()
        self._hopeless: int | None = None
        self._thread = threading.Thread(target=self._run, name="demo-supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End them, and wait for that."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._output.close()

    def started(self, name: str) -> int:
        """How often it came so far that it works. Raises ProcessesError when it never will."""
        if self._hopeless is not None:
            raise ProcessesError(f"Bridge or worker ended with exit code {self._hopeless}. They said:\n{self.said()}")
        return self._log.read_text(errors="replace").count(f'"{_READY[name]}"')

    def pid(self, name: str) -> int | None:
        process = self._children[name].process
        return None if process is None else process.pid

    def kill(self, name: str) -> int:
        """SIGKILL; returns the pid once it is dead."""
        process = self._children[name].process
        if process is None:
            raise ProcessesError(f"The {name} died by itself before the demo could kill it. It said:\n{self.said()}")
        os.kill(process.pid, signal.SIGKILL)
        # Without reaping it: that is the supervisor's, who may have done it already.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return process.pid

    def hold(self, *names: str) -> None:
        """Once they are dead they stay so, until they are released."""
        for name in names:
            self._children[name].held = True

    def release(self, name: str, settings: Mapping[str, str] | None = None) -> None:
        """Have it started, with settings of its own."""
        self._children[name].settings = settings or {}
        self._children[name].held = False

    def said(self) -> str:
        """The end of what they logged."""
        if not self._log.exists():
            return ""
        return self._log.read_bytes()[-_TOLD_BYTES:].decode(errors="replace")

    def _run(self) -> None:
        self._hopeless = Supervisor(list(self._children.values())).run(self._stop, self._environment)
