"""The real command line in processes of its own: on embedded servers in a temporary home, or on the run's servers."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest

from ops.stack import Stack, control
from tests.conftest import cloning, quick_folder
from tests.ports import free_port

MBEVENTS = [sys.executable, "-W", "error", "-m", "ops.cli"]
# Of ours, which the machine of a developer may have set.
OURS = (
    "DATABASE_URL",
    "REDIS_",
    "BROKER_URL",
    "MBEVENTS_",
    "METRICS_",
    "WEB_",
    "SENTRY_",
    "LOG_",
    "REPLICATION_TYPE",
    "PACKET_",
)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """On standard error, without what it says meanwhile on a machine where it takes long."""
        return re.sub(r"^.* … \(\d+ s\)\n", "", self.err, flags=re.MULTILINE)


class Home:
    """A home of embedded servers, and commands that use it."""

    def __init__(self, folder: Path, web_port: int) -> None:
        self.folder = folder
        self.database_url = f"postgresql://postgres@/musicbrainz?host={folder / 'run'}"
        self.web = f"127.0.0.1:{web_port}"
        plain = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        self.environment = {**plain, "MBEVENTS_HOME": str(folder), "WEB_LISTEN": self.web, "NO_COLOR": "1"}
        # Processes do not inherit our current folder's .env.
        self.cwd = folder.parent

    def run(self, *arguments: str, environment: dict[str, str] | None = None, stdin: str = "") -> Done:
        done = subprocess.run(
            [*MBEVENTS, *arguments],
            env={**self.environment, **(environment or {})},
            cwd=self.cwd,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, environment: dict[str, str] | None = None) -> "Started":
        return Started(self, arguments, {**self.environment, **(environment or {})})

    def use(self, stack: Stack, database_url: str) -> None:
        """Servers that somebody configured: the embedded ones are not started."""
        self.database_url = database_url
        self.environment |= {"DATABASE_URL": database_url, "REDIS_SERVER": stack.redis_url().partition("?")[0]}

    def connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(self.database_url, autocommit=True)

    def processes(self) -> list[str]:
        """What runs for this home: the servers, and whatever has it in its environment."""
        found = []
        for process in psutil.process_iter(["cmdline", "environ", "status", "pid"]):
            line = " ".join(process.info["cmdline"] or [])
            ours = str(self.folder) in line or (process.info["environ"] or {}).get("MBEVENTS_HOME") == str(self.folder)
            if ours and process.info["status"] != psutil.STATUS_ZOMBIE and process.info["pid"] != os.getpid():
                found.append(f"{process.info['pid']}: {line}")
        return found


class Started:
    """A command that runs; its output goes to files, which can be waited for."""

    def __init__(self, home: Home, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        self._log = Path(tempfile.mkdtemp(dir=home.folder.parent))
        with (self._log / "out").open("wb") as out, (self._log / "err").open("wb") as err:
            self.process = subprocess.Popen(
                [*MBEVENTS, *arguments], env=environment, cwd=home.cwd, stdout=out, stderr=err
            )

    @property
    def out(self) -> str:
        return (self._log / "out").read_text()

    @property
    def err(self) -> str:
        return (self._log / "err").read_text()

    def wait_for(self, text: str, seconds: float = 60) -> None:
        assert wait_until(lambda: text in self.err or text in self.out or self.process.poll() is not None, seconds)
        assert text in self.err + self.out, self.err + self.out

    def end(self, number: signal.Signals = signal.SIGINT, seconds: float = 30) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def make_home() -> Iterator[Home]:
    parent = Path(tempfile.mkdtemp(prefix="mbe-", dir=quick_folder()))
    parent.chmod(0o755)
    home = Home(parent / "home", free_port())
    try:
        yield home
    finally:
        if home.folder.exists():
            control.stop_servers(home.folder)
            control.end_keeper(home.folder)
        shutil.rmtree(parent)


@pytest.fixture
def fresh() -> Iterator[Home]:
    """A home that nobody used yet."""
    yield from make_home()


@pytest.fixture(scope="module")
def used() -> Iterator[Home]:
    """A home for the stories of one file, so that its database is made only once."""
    yield from make_home()


@pytest.fixture(scope="session")
def home(stack: Stack, captured_template: str) -> Iterator[Home]:
    """Configured servers with the sample database and everything installed; nothing else may be taken for granted."""
    with cloning(stack) as clone:
        yield from configured_home(stack, clone(captured_template))


@pytest.fixture
def own_home(redis_server: Stack, captured: str) -> Iterator[Home]:
    """The same, used by nobody before."""
    yield from configured_home(redis_server, captured)


def configured_home(stack: Stack, database_url: str) -> Iterator[Home]:
    for made in make_home():
        made.use(stack, database_url)
        yield made
