"""A Redis and its replica behind one address, and everything that may happen to them."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import redis

from tests.proxy import Proxy
from tests.redis_process import RedisProcess
from tests.server_clock import ServerClock
from tests.waiting import wait_for

# "silent": the connections of then are open on our side only. "late": who writes while the replica takes over already
# still has the old master.
Fault = Literal[
    "killed", "restored", "stopped", "silent", "slow", "too slow", "full", "emptied",
    "failed over", "failed over late", "failed over and back", "clock ahead", "clock behind",
]  # fmt: skip
FAULTS: Sequence[Fault] = get_args(Fault)
# What a client meets no Redis in.
AWAY: Set[Fault] = {"killed", "stopped", "too slow"}
# Clients give up after this; what is slow takes a part of it, what is too slow takes longer.
SECONDS = 0.3
# For a connection, and for an answer, on a machine that is busy.
LONGEST = 2 * SECONDS + 0.3
HOURS = 4 * 3600
T = TypeVar("T")


class Stopwatch:
    """Calls what it is given; `slowest`: seconds that the slowest of it took, be it in vain."""

    def __init__(self) -> None:
        self.slowest = 0.0

    def __call__(self, call: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            return call()
        finally:
            self.slowest = max(self.slowest, time.monotonic() - began)


class FaultyRedis:
    """Clients use `url`. Both servers have one clock."""

    def __init__(self, folder: Path) -> None:
        self.clock = ServerClock(folder)
        environment = self.clock.environment()
        # Which is which may change: started again, either is a master.
        self.master, self.replica = (RedisProcess(folder, keeps=True, environment=environment) for _ in range(2))
        self._address = Proxy(str(self.master.socket))

    def url(self, database: int = 0) -> str:
        return f"redis://127.0.0.1:{self._address.port}/{database}"

    @contextmanager
    def suffering(self, fault: Fault) -> Iterator[None]:
        """It lasts for the length of the block, and begins when all that was written before is at the replica."""
        self.wait_for_replica()
        match fault:
            case "killed" | "restored":
                if fault == "restored":
                    # Comes back with what it had then.
                    self._tell(self.master, "SAVE")
                    yield
                self.master.kill()
                if fault == "killed":
                    yield
                self.master.start()
            case "stopped":
                self.master.send(signal.SIGSTOP)
                yield
                self.master.send(signal.SIGCONT)
            case "silent":
                self._address.freeze()
                yield
            case "slow" | "too slow":
                self._address.delay = SECONDS / 15 if fault == "slow" else SECONDS
                yield
                self._address.delay = 0
            case "full":
                self._tell(self.master, "CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", 1)
                yield
                self._tell(self.master, "CONFIG", "SET", "maxmemory", 0)
            case "emptied":
                self._tell(self.master, "FLUSHALL")
                yield
            case "failed over":
                self._fail_over()
                yield
            case "failed over late":
                self._tell(self.replica, "REPLICAOF", "NO", "ONE")
                yield
                self._fail_over()
            case "failed over and back":
                self._fail_over()
                yield
                # As it was when it was left: it follows nobody who could tell it what came since.
                self._fail_over()
            case "clock ahead" | "clock behind":
                self.clock.require()
                self.set_clock(HOURS if fault == "clock ahead" else -HOURS)
                yield
                self.set_clock(0)

    def set_clock(self, ahead: float) -> None:
        """By so many seconds; when it returns it is what the master goes by."""
        self.clock.set(ahead)
        with redis.Redis.from_url(self.master.url()) as admin:
            wait_for(lambda: abs(admin.time()[0] - time.time() - ahead) < 1.5)

    def begin_anew(self) -> None:
        """Well, and empty."""
        self._address.delay = 0
        for each in (self.master, self.replica):
            if each.runs:
                each.send(signal.SIGCONT)
            else:
                each.start()
        self.set_clock(0)
        for command in ("REPLICAOF NO ONE", "CONFIG SET maxmemory 0", "FLUSHALL", "SCRIPT FLUSH"):
            self._tell(self.master, *command.split())
        self.attach_replica()

    def close(self) -> None:
        self._address.close()
        for each in (self.master, self.replica):
            each.kill()

    def _fail_over(self) -> None:
        self._tell(self.replica, "REPLICAOF", "NO", "ONE")
        self._tell(self.master, "REPLICAOF", "127.0.0.1", 1)
        self.master, self.replica = self.replica, self.master
        self._address.lead_to(str(self.master.socket))

    def attach_replica(self) -> None:
        """Who was left by a failover follows the new master."""
        # One that follows it already would wait a second before it looks for it again.
        self._tell(self.replica, "REPLICAOF", "NO", "ONE")
        self._tell(self.replica, "REPLICAOF", "127.0.0.1", self.master.port)
        self.wait_for_replica()

    def wait_for_replica(self) -> None:
        with redis.Redis.from_url(self.master.url()) as admin:
            admin.set("mbevents:test", 1, px=1)
            for _ in range(4):
                ends = time.monotonic() + 5
                while time.monotonic() < ends:
                    if admin.wait(1, 100) == 1:
                        return
                # What a server forks to copy itself never ends if libfaketime held a lock just then.
                self.master.kill_children()
        raise AssertionError([self._info(each) for each in (self.master, self.replica)])

    @staticmethod
    def _info(server: RedisProcess) -> Any:
        with redis.Redis.from_url(server.url()) as admin:
            return admin.info("replication")

    def end_clients_of_replica(self) -> None:
        self._tell(self.replica, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    @staticmethod
    def _tell(server: RedisProcess, *command: Any) -> None:
        with redis.Redis.from_url(server.url()) as admin:
            admin.execute_command(*command)
