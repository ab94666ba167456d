"""Redis processes that a test may kill, stop and make replicas of each other."""

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import redis

from ops.stack.redis import find_binary
from tests.ports import free_port
from tests.waiting import wait_for


class RedisProcess:
    """One server, on a unix socket and a port of loopback, by which replicas find it.

    It is empty when it starts, unless `keeps`: then it has what was saved last. Its folder's path must be short.
    `environment`: what it is given beside ours.
    """

    def __init__(
        self,
        folder: Path,
        *,
        master: "RedisProcess | None" = None,
        keeps: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.socket = folder / f"{self.port}.sock"
        self._environment = {**os.environ, **(environment or {})}
        self._options = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket)]
        self._options += ["--save", "", "--dir", str(folder), "--repl-diskless-sync-delay", "0"]
        self._options += ["--dbfilename", f"{self.port}.rdb" if keeps else "none.rdb"]
        if master is not None:
            self._options += ["--replicaof", "127.0.0.1", str(master.port)]
        self.start()

    def url(self, database: int = 0) -> str:
        return f"unix://{self.socket}?db={database}"

    def start(self) -> None:
        command = [str(find_binary()), *self._options]
        self._process = subprocess.Popen(command, env=self._environment, stdout=subprocess.DEVNULL)
        wait_for(self._ready)

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)
        self.socket.unlink(missing_ok=True)

    def kill_children(self) -> None:
        for child in psutil.Process(self._process.pid).children():
            child.kill()

    def _ready(self) -> bool:
        with suppress(redis.RedisError), redis.Redis.from_url(self.url()) as client:
            return bool(client.info("replication").get("master_link_status", "up") == "up")
        return False
