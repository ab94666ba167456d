"""From settings to running parts: the only package that knows the concrete classes.

A part is made when it is first asked for, and closed with the runtime: a command pays for what it uses.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from events.errors import UnreachableError, UsageError
from events.telemetry import Telemetry
from ops.settings import Settings
from ops.wiring.working import Working

Progress = Callable[[str], None]


class Runtime(Working):
    """The parts of one process. `servers` are the embedded ones, if it uses any."""


@contextmanager
def open_runtime(
    settings: Settings,
    *,
    progress: Progress = lambda _: None,
    telemetry: Telemetry | None = None,
    create: bool = False,
    create_redis: bool = False,
    database: bool = True,
    with_redis: bool = True,
) -> Iterator[Runtime]:
    """The parts of a process. Embedded servers that it needs are started; made from nothing only with `create`.

    `create_redis` is for processes that need no more than a Redis beside a configured database.
    """
    with ExitStack() as closing:
        postgres = database and settings.needs_embedded_postgres
        store = with_redis and settings.needs_embedded_redis
        servers = None
        if postgres or store:
            import ops.stack

            if not create:
                _refuse_to_make(settings, postgres=postgres, store=store and not create_redis)
            servers = ops.stack.start(settings.mbevents_home, postgres=postgres, redis=store, progress=progress)
            closing.callback(servers.close)
        yield Runtime(settings, servers, closing, telemetry)


def _refuse_to_make(settings: Settings, *, postgres: bool, store: bool) -> None:
    """A question is no reason to make servers. Raises UnreachableError where there are none of these yet."""
    from ops.stack import control

    home = settings.mbevents_home
    if postgres and control.data_folder(home) is None:
        raise UnreachableError(
            f"No DATABASE_URL is set, and there is no embedded database in {home} yet. "
            "Run `mbevents up` to make one, or set DATABASE_URL."
        )
    if store and not postgres and not control.is_home(home):
        raise UnreachableError(
            f"No REDIS_SERVER is set, and there is no embedded Redis in {home} yet. "
            "Run `mbevents up` to make one, or set REDIS_SERVER."
        )


def ensure_database(runtime: Runtime, progress: Progress) -> bool:
    """The embedded database with the real schema and its sample data; True if it was made now."""
    if runtime.servers is None or runtime.servers.postgres is None:
        raise UsageError("A configured database is the operator's: only an embedded one is made.")
    import ops.stack

    return ops.stack.ensure_musicbrainz(runtime.servers, progress=progress)
