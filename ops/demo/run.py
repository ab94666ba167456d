"""The demo from its first process to its last."""

import os
import sys
import threading
import time
from contextlib import ExitStack
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import psycopg

from ops.demo import faults, replica, story
from ops.demo.edits import Edits
from ops.demo.effects import Audit, Step, missing, summary
from ops.demo.observe import InterruptedDemoError, Observer
from ops.demo.place import Processes, ProcessesError, forget_libpq, temporary_home
from ops.demo.screen import Screen
from ops.settings import Settings
from ops.wiring import Runtime, ensure_database, open_runtime

_READY_SECONDS = 30.0
_AUDIT_SECONDS = 20.0


class Demo:
    """One run; `stop` ends it early. `steps` and `audit` are what was seen so far."""

    def __init__(self, screen: Screen, stop: threading.Event) -> None:
        self._screen = screen
        self._stop = stop
        self.steps: list[Step] = []
        self.audit: Audit | None = None
        self._began = time.monotonic()

    def run(self) -> dict[str, Any]:
        """Play the story and return its summary. Raises InterruptedDemoError, with everything ended and removed."""
        try:
            with ExitStack() as closing:
                home = closing.enter_context(temporary_home())
                self._play(home, closing)
                self._screen.table(self.steps)
        except Exception as error:
            # An interrupted start fails in whatever way: that is not what to tell.
            if self._stop.is_set() and not isinstance(error, InterruptedDemoError):
                raise InterruptedDemoError("Interrupted.") from error
            raise
        return summary(self.steps, self.audit, seconds=time.monotonic() - self._began)

    def _play(self, home: Path, closing: ExitStack) -> None:
        screen = self._screen
        screen.say("Real edits in a real MusicBrainz database, watched from COMMIT to their effects.", "bold")
        screen.say("Servers, database, bridge and worker are the demo's own, and are gone when it ends.\n")
        parts = self._servers(home, closing)
        mirror = self._mirror(parts)
        edits = Edits(closing.enter_context(_connected(parts)))
        with screen.working("Installing capture, log and ledger") as working:
            self._install(parts, working)
        processes = self._processes(home, mirror, closing)
        watching = closing.enter_context(_connected(parts))
        observer = Observer(parts, watching, self._stop)
        closing.callback(observer.close)
        scene = story.Scene(parts, edits, observer)
        for act in story.ACTS:
            with screen.waiting() as working:
                if act.bulk:
                    working.update(f"filling the cache with {story.RECORDINGS:,} entries")
                self._done(act.play(scene))
        blocker = closing.enter_context(_connected(parts))
        with screen.waiting() as working:
            killed = faults.worker_killed(scene, processes, blocker, working.update)
        self._done(killed)
        with screen.waiting() as working:
            lost = faults.queues_lost(scene, processes, working.update)
        self._done(lost)
        with screen.waiting() as working:
            for step in replica.followed(scene, processes, mirror, working.update):
                self._done(step)
        self.audit = observer.audit(_AUDIT_SECONDS)
        if missing(self.steps, self.audit):
            screen.say("\nBridge and worker said at the end:", "bold red")
            screen.say(processes.said())

    def _servers(self, home: Path, closing: ExitStack) -> Runtime:
        def progress(text: str) -> None:
            self._check()
            working.update(text)

        with self._screen.working("Starting PostgreSQL and Redis") as working:
            settings = Settings(mbevents_home=home, replication_type="RT_MASTER")
            parts = closing.enter_context(open_runtime(settings, create=True, progress=progress))
            working.done(f"PostgreSQL and Redis run, in {home}")
        with self._screen.working("Building the MusicBrainz database") as working:
            ensure_database(parts, progress)
            self._check()
            working.done("The MusicBrainz schema, with the sample data of its project")
        return parts

    def _mirror(self, parts: Runtime) -> replica.Mirror:
        with self._screen.working("Copying the database to a mirror") as working:
            with _connected(parts) as connection:
                Edits(connection).prepare(artist=story.GLASS_ID, recordings=story.RECORDINGS)
            self._check()
            mirror = replica.make(parts)
            working.done("A mirror of it in a second database, as MusicBrainz sets one up")
        return mirror

    def _install(self, parts: Runtime, working: Any) -> None:
        from producers.capture import service

        self._check()
        kind = parts.settings.replication_type
        with parts.connection() as connection:
            service.install(connection, replication_type=kind)
            captured = service.check(connection, replication_type=kind).captured
        working.done(f"Capture on {captured} tables, log and ledger installed; {story.RECORDINGS:,} recordings added")

    def _processes(self, home: Path, mirror: replica.Mirror, closing: ExitStack) -> Processes:
        with self._screen.working("Starting bridge and worker") as working:
            processes = Processes(home, mirror.masters(), later=replica.PROCESSES)
            closing.callback(processes.close)
            processes.start()
            deadline = time.monotonic() + _READY_SECONDS
            while not (processes.started("bridge") and processes.started("worker")):
                self._check()
                if time.monotonic() > deadline:
                    raise ProcessesError(
                        f"Bridge and worker are not ready after {_READY_SECONDS:.0f} s. They said:\n{processes.said()}"
                    )
                time.sleep(0.02)
            pids = " and ".join(f"{name} ({processes.pid(name)})" for name in ("bridge", "worker"))
            working.done(f"Processes of their own: {pids}")
        return processes

    def _done(self, step: Step) -> None:
        self.steps.append(step)
        self._screen.step(step)

    def _check(self) -> None:
        if self._stop.is_set():
            raise InterruptedDemoError("Interrupted.")


def _connected(parts: Runtime) -> "psycopg.Connection[Any]":
    return psycopg.connect(parts.database_url, autocommit=True, application_name="mbevents demo")


def main(*, as_json: bool) -> int:
    """The command; returns the exit code: 0 only if every effect was seen."""
    from ops import logs
    from ops.cli.output import put_json, say
    from ops.service import running

    forget_libpq(os.environ)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal that cannot show an arrow is to show something else.
            stream.reconfigure(errors="replace")
    # That a killed worker died is no news here, and would come between the lines of the story.
    logs.configure(level="CRITICAL")
    screen = Screen(sys.stderr if as_json else sys.stdout, sys.stderr)
    with running("demo", Settings()) as service:
        try:
            found = Demo(screen, service.stop).run()
        except InterruptedDemoError:
            say("Interrupted: all that the demo started is ended, and its folder is removed.")
            return InterruptedDemoError.exit_code
    screen.end(found)
    if as_json:
        put_json(found)
    return 0 if found["ok"] else 1
