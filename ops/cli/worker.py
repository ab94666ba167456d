"""`mbevents worker`."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from events.errors import UsageError

if TYPE_CHECKING:
    from ops.settings import Settings

Drain = Annotated[bool, typer.Option("--drain", help="Work until the queues are empty, and end.")]
Queues = Annotated[
    str | None, typer.Option(help="Only these queues, by name, with commas; other workers have to take the rest.")
]
Threads = Annotated[int | None, typer.Option(min=1, max=256, help="Threads of a process (default: WORKER_THREADS).")]
Processes = Annotated[int, typer.Option(min=1, max=256, help="Worker processes; each is started again if it dies.")]


def register(app: typer.Typer) -> None:
    app.command()(worker)


def worker(drain: Drain = False, queues: Queues = None, threads: Threads = None, processes: Processes = 1) -> None:
    """Do the work that events cause.

    It also returns the messages of dead workers to their queues, and enqueues work again that was lost.
    """
    from ops.cli.common import load_settings

    chosen = _known_queues(queues)
    settings = load_settings(service=not drain).settings
    if processes > 1:
        raise typer.Exit(_supervised(settings, processes, drain, queues, threads))
    raise typer.Exit(_work(settings, chosen, drain, threads or settings.worker_threads))


def _known_queues(given: str | None) -> list[str] | None:
    if given is None:
        return None
    from events.catalogue import ACTORS

    known = sorted({actor.queue for actor in ACTORS.values()})
    chosen = [name.strip() for name in given.split(",") if name.strip()]
    unknown = sorted(set(chosen) - set(known))
    if unknown or not chosen:
        what = f"no queues called {', '.join(unknown)}" if unknown else "nothing named"
        raise UsageError(f"--queues: {what}. There are: {', '.join(known)}.")
    return chosen


def _supervised(settings: "Settings", processes: int, drain: bool, queues: str | None, threads: int | None) -> int:
    from ops.service import PORTS, running
    from ops.supervisor import Child, Supervisor, own_command

    command = own_command("worker")
    if drain:
        command.append("--drain")
    if queues is not None:
        command += ["--queues", queues]
    if threads is not None:
        command += ["--threads", str(threads)]
    children = [Child(f"worker {number}", command, finishes=drain) for number in range(1, processes + 1)]
    ports = max(processes, int(os.environ.get(PORTS, "1")))
    with running("workers", settings) as service:
        hopeless = Supervisor(children).run(service.stop, {**os.environ, PORTS: str(ports)})
        return service.exit_code if hopeless is None else hopeless


def _work(settings: "Settings", queues: list[str] | None, drain: bool, threads: int) -> int:
    from events.queues.worker import run_worker
    from ops.checks import database_check, redis_check, redis_checks
    from ops.cli.common import say_news, told
    from ops.service import running
    from ops.settings import RedisRole
    from ops.wiring import open_runtime

    with (
        told(settings),
        running("worker", settings) as service,
        open_runtime(settings, progress=say_news, telemetry=service.telemetry, create_redis=True) as parts,
    ):
        broker = parts.worker_broker
        checks = {
            "database": database_check(parts),
            "broker": redis_check(parts, RedisRole.BROKER),
        }
        if drain:
            # It would wait for servers that come back, and a drain is to end.
            for check in (checks["database"], checks["broker"]):
                check()
            parts.reaper.run_once()
            parts.requeuer.run_once()
        # Work that needs one of these waits in its queue, and there is other work.
        spared = redis_checks(parts, [role for role in RedisRole if role is not RedisRole.BROKER])
        with service.served(checks, spared):
            run_worker(
                broker,
                queues,
                threads=threads,
                stop=service.stop,
                drain=drain,
                # A drain ends when nothing is left to do by the ledger either, whatever the broker lost meanwhile.
                refill=parts.refill,
                duties=(parts.reaper.run,) if drain else (parts.reaper.run, parts.requeuer.run),
            )
        return service.exit_code
