"""Runs actors in this process, and a supervisor for several such processes."""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Collection, Sequence
from types import FrameType
from typing import Any

import dramatiq.worker
import structlog
from dramatiq import Worker
from dramatiq.common import current_millis, dq_name
from dramatiq.errors import BrokerConnectionError

log = structlog.get_logger(__name__)

PREFETCH = 200
WORKER_TIMEOUT_MS = 1_000
RESTART_DELAY_SECONDS = 0.5
PARENT = "MBEVENTS_SUPERVISOR"


def run_worker(
    broker: Any,
    queues: Collection[str] | None = None,
    *,
    threads: int = 8,
    stop: threading.Event,
    drain: bool = False,
    prefetch: int = PREFETCH,
    stop_timeout: float = 30.0,
) -> None:
    """Work on `queues` (None: all that have actors) until `stop` is set or, with `drain`, until they are empty.

    What was not started goes back to its queue. What runs may go on for `stop_timeout` seconds; what is not done then
    is left to be delivered again.
    """
    # Seconds, not Dramatiq's three and five: a broker that was restarted must be worked on again at once.
    dramatiq.worker.CONSUMER_RESTART_DELAY_SECS = RESTART_DELAY_SECONDS
    dramatiq.worker.POST_PROCESS_MESSAGE_RETRY_DELAY_SECS = RESTART_DELAY_SECONDS
    # It would log every failure with whatever the exception quotes; our middleware logs them without.
    logging.getLogger("dramatiq.worker.WorkerThread").setLevel(logging.CRITICAL)
    names = set(queues) if queues is not None else broker.get_declared_queues()
    worker = Worker(broker, queues=names, worker_threads=threads, worker_timeout=WORKER_TIMEOUT_MS)
    worker.queue_prefetch = prefetch
    worker.start()
    log.info("worker_started", queues=sorted(names), threads=threads)
    try:
        if drain:
            _until_empty(broker, worker, names, stop)
        else:
            _until_stopped(stop)
    finally:
        broker.stopping = True
        worker.stop(timeout=int(stop_timeout * 1000))
        log.info("worker_stopped")


def _until_stopped(stop: threading.Event) -> None:
    parent = os.environ.get(PARENT)
    while not stop.wait(1.0):
        if parent is not None and os.getppid() != int(parent):
            log.warning("supervisor_is_gone")
            return


def _until_empty(broker: Any, worker: Any, names: Collection[str], stop: threading.Event) -> None:
    # Twice in a row, because a message may be on its way between two places that are looked at one after the other;
    # RabbitMQ's may be on the wire, where nobody sees them.
    needed = 2 if hasattr(broker, "in_hand") else 10
    seen = 0
    while seen < needed and not stop.wait(0.05):
        try:
            empty = not _busy(worker, names) and broker.idle(names) and not _busy(worker, names)
        except BrokerConnectionError as error:
            log.warning("drain_waits_for_broker", error=str(error))
            empty = False
        seen = seen + 1 if empty else 0


def _busy(worker: Any, names: Collection[str]) -> bool:
    """Whether messages are in the threads' hands, or delayed ones are due."""
    if worker.work_queue.unfinished_tasks:
        return True
    now = current_millis()
    consumers = (worker.consumers.get(dq_name(name)) for name in names)
    return any(item.priority <= now for each in consumers if each for item in list(each.delay_queue.queue))


def supervise(n: int, argv: Sequence[str], *, stop_timeout: float = 40.0) -> int:
    """Run `n` processes of a command until SIGTERM or SIGINT, starting again each that dies; the exit code.

    One that ends with 0 is done and not started again; exit code 2 (it was asked for nonsense) ends all.
    """
    return _Supervisor(n, argv, stop_timeout).run()


class _Child:
    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)
        self._failures = 0
        self._started = 0.0
        self.start_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self.done = False

    def start(self) -> None:
        self._started = time.monotonic()
        # A session of its own: Ctrl-C in the terminal reaches the supervisor alone, which passes it on once.
        self.process = subprocess.Popen(
            self._argv, env={**os.environ, PARENT: str(os.getpid())}, start_new_session=True
        )

    def died(self, code: int) -> None:
        lived = time.monotonic() - self._started
        self._failures = 1 if lived > 60 else self._failures + 1
        wait = min(30.0, 0.25 * 2**self._failures)
        self.start_at = time.monotonic() + wait
        self.process = None
        log.error("worker_died", exit_code=code, lived_seconds=round(lived, 1), starts_again_in_seconds=wait)


class _Supervisor:
    def __init__(self, n: int, argv: Sequence[str], stop_timeout: float) -> None:
        self._children = [_Child(argv) for _ in range(n)]
        self._stop_timeout = stop_timeout
        self._stop = threading.Event()
        self._code = 0

    def run(self) -> int:
        before = {each: signal.signal(each, self._stopped) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._stop.is_set() and not all(child.done for child in self._children):
                self._look()
                self._stop.wait(0.1)
        finally:
            self._end()
            for each, handler in before.items():
                signal.signal(each, handler)
        return self._code

    def _stopped(self, _signal: int, _frame: FrameType | None) -> None:
        self._stop.set()

    def _look(self) -> None:
        for child in self._children:
            if child.done:
                continue
            if child.process is None:
                if time.monotonic() >= child.start_at:
                    child.start()
                continue
            code = child.process.poll()
            if code is None:
                continue
            if code == 0:
                child.done = True
            elif code == 2:
                self._code = code
                self._stop.set()
            else:
                child.died(code)

    def _end(self) -> None:
        running = [child.process for child in self._children if child.process and child.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._stop_timeout
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("worker_killed", pid=process.pid)  # noqa: TRY400
                process.kill()
                process.wait()
