"""Runs actors in this process."""

import logging
import os
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

import dramatiq.worker
import structlog
from dramatiq import Worker

from .factory import Broker

log = structlog.get_logger(__name__)

# Messages that a process takes from each queue ahead of its threads; one may hold 500 events.
PREFETCH = 64
WORKER_TIMEOUT_MS = 1_000
RESTART_DELAY_SECONDS = 0.5
PARENT = "MBEVENTS_SUPERVISOR"

Duty = Callable[[threading.Event], None]


def run_worker(
    broker: Broker,
    queues: Collection[str] | None = None,
    *,
    threads: int = 8,
    stop: threading.Event,
    drain: bool = False,
    refill: Callable[[], int] | None = None,
    duties: Sequence[Duty] = (),
    prefetch: int = PREFETCH,
    stop_timeout: float = 30.0,
) -> None:
    """Work on `queues` (None: all that have actors) until `stop` is set or, with `drain`, until they are empty.

    `threads` work on everything but slow queues; each of these has one of its own.
    `refill` is asked at the end of a drain for work whose messages were lost; how many it enqueued (`run_once` of a
    `Requeuer` without grace).
    `duties` run beside it, each in a thread, until the event that they are given is set (`Reaper.run`, `Requeuer.run`).
    What was not started goes back to its queue. What runs may go on for `stop_timeout` seconds; what is not done then
    is left to be delivered again.
    """
    # Seconds, not Dramatiq's three and five: a broker that was restarted must be worked on again at once.
    dramatiq.worker.CONSUMER_RESTART_DELAY_SECS = RESTART_DELAY_SECONDS
    dramatiq.worker.POST_PROCESS_MESSAGE_RETRY_DELAY_SECS = RESTART_DELAY_SECONDS
    # It would log every failure with whatever the exception quotes; our middleware logs them without.
    logging.getLogger("dramatiq.worker.WorkerThread").setLevel(logging.CRITICAL)
    names = set(queues) if queues is not None else broker.get_declared_queues()
    broker.stopping = False
    # Of each slow queue one message at most is in hand, so `threads` of them are always left for the rest.
    most = threads + len(names & set(broker.slow_queues))
    worker = Worker(broker, queues=names, worker_threads=most, worker_timeout=WORKER_TIMEOUT_MS)
    worker.queue_prefetch = prefetch
    worker.start()
    done = threading.Event()
    # Daemons: a duty may wait for a server that does not answer, and must not hold up the end of the process.
    beside = [threading.Thread(target=duty, args=(done,), name="worker-duty", daemon=True) for duty in duties]
    for thread in beside:
        thread.start()
    log.info("worker_started", queues=sorted(names), threads=threads)
    try:
        if drain:
            _until_empty(broker, worker, names, stop, refill or (lambda: 0))
        else:
            _until_stopped(stop)
    finally:
        broker.stop_fetching()
        worker.stop(timeout=int(stop_timeout * 1000))
        done.set()
        for thread in beside:
            thread.join(5.0)
        log.info("worker_stopped")


def _until_stopped(stop: threading.Event) -> None:
    parent = os.environ.get(PARENT)
    while not stop.wait(1.0):
        if parent is not None and os.getppid() != int(parent):
            log.warning("supervisor_is_gone")
            return


def _until_empty(
    broker: Broker, worker: Any, names: Collection[str], stop: threading.Event, refill: Callable[[], int]
) -> None:
    looks = 0
    while looks < broker.looks_until_idle and not stop.wait(0.05):
        try:
            empty = broker.idle(names, worker) and refill() == 0
        except Exception as error:
            # A server that is away is waited for: that nobody can say whether there is work does not mean that none is.
            log.warning("drain_waits", error=type(error).__name__)
            empty = False
        looks = looks + 1 if empty else 0
