"""`mbevents replication status` and `check`: whether replication runs, for people and for monitoring."""

from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from events.errors import MbeventsError
from ops.cli.common import AsJson, runtime
from ops.cli.output import put, put_json, put_table

if TYPE_CHECKING:
    from workers.replication.status.verdict import Verdict

Warning_ = Annotated[
    float | None, typer.Option("-w", "--warning", help="Seconds (or packets) above which it warns. Default: 2 hours.")
]
Critical = Annotated[
    float | None, typer.Option("-c", "--critical", help="… above which it is critical. Default: 6 hours.")
]
Packets = Annotated[
    bool, typer.Option("--packets", help="Limits are packets that a mirror lacks. Defaults: 2 and 6 packets.")
]


# Click's UsageError, which is in typer itself or beside it, as typer's release has it.
_WrongOption: Any = typer.BadParameter.__mro__[1]


class _Plugin(TyperCommand):
    """A plugin of monitoring: a wrong option is UNKNOWN, for exit code 2 would mean CRITICAL."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except _WrongOption as error:
            _end_unknown(str(error.format_message()))


def register(app: typer.Typer) -> None:
    app.command()(status)
    app.command(cls=_Plugin)(check)


def status(as_json: AsJson = False) -> None:
    """Say how far replication is, what its last runs came to, and when the next one is."""
    from ops.replication import RUN_HEADERS, facts, runs

    with runtime(redis=False) as parts:
        found = parts.replication_status.read()
    if as_json:
        put_json(found.to_dict())
        return
    put_table(("WHAT", "IS"), facts(found))
    if told := runs(found):
        put("")
        put_table(RUN_HEADERS, told)


def check(
    warning: Warning_ = None, critical: Critical = None, packets: Packets = False, as_json: AsJson = False
) -> None:
    """Say in one line whether replication is as it should be, for Nagios and its like.

    A mirror is measured by the age of its last packet (--packets: by how many it lacks), a master by the age of the
    oldest change that is in no packet. Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
    """
    from workers.replication.status.verdict import verdict

    try:
        with runtime(redis=False) as parts:
            found = verdict(parts.replication_status.read(), warning=warning, critical=critical, by_packets=packets)
    except Exception as error:
        from ops.web.health import reason_of

        _end_unknown(str(error) if isinstance(error, MbeventsError) else reason_of(error), as_json=as_json)
    _end(found, as_json=as_json)


def _end_unknown(text: str, *, as_json: bool = False) -> NoReturn:
    from workers.replication.status.verdict import Verdict

    _end(Verdict("UNKNOWN", text), as_json=as_json)


def _end(found: "Verdict", *, as_json: bool) -> NoReturn:
    if as_json:
        put_json(found.to_dict())
    else:
        put(found.line)
    raise typer.Exit(found.code)
