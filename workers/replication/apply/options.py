"""What an operator can ask of applying, and what it tells."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from events.errors import MbeventsError
from workers.replication.apply.core import Change

OnDivergence = Literal["fail", "warn", "repair"]


@dataclass(frozen=True, slots=True)
class Divergence:
    """A row of the mirror that is not what the packet says it was."""

    table: str
    key: str
    op: str
    difference: str

    def __str__(self) -> str:
        return f"{self.table}, row {self.key}: {self.difference}"


class DivergenceError(MbeventsError):
    """The mirror's rows are not the master's: nothing of the packet was applied."""

    def __init__(self, divergence: Divergence) -> None:
        super().__init__(
            f"The mirror differs from its master: {divergence}. Nothing of the packet was applied. Find out what else "
            "differs with `mbevents replication verify`; --on-divergence repair writes the packet's row where one is "
            "missing or there already."
        )
        self.divergence = divergence


class Source(Protocol):
    """A packet, which may be read several times. `keys`, `times` and `transactions` are known once it was read."""

    number: int
    schema_sequence: int
    # Rows are PostgreSQL's texts, and old ones but keys (version 1): no events can be derived from them.
    texts: bool
    # The packet's own primary keys, by table.
    keys: Mapping[str, tuple[str, ...]]
    # The lines of pending_ts, in pieces.
    times: Sequence[bytes]
    transactions: int | None

    def changes(self) -> Generator[list[Change], None, None]:
        """All changes, from the beginning. Raises PacketError."""
        ...


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """`wanted` says by name which tables are kept here. `events` is the source of the events, or None for none;
    `chunk` how many changes are made at a time: memory grows with it."""

    on_divergence: OnDivergence = "fail"
    wanted: Callable[[str], bool] = lambda _: True
    events: str | None = None
    chunk: int = 30_000


@dataclass(slots=True)
class Applied:
    """What was done. `mode`: in sets, or one by one because a set did not go in (`why`). `skipped`: changes of tables
    that are not kept here, by table."""

    number: int
    changes: int = 0
    transactions: int = 0
    events: int = 0
    mode: Literal["sets", "one by one"] = "sets"
    why: str = ""
    skipped: Mapping[str, int] = field(default_factory=dict)
    diverged: int = 0
    divergences: Sequence[Divergence] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "changes": self.changes,
            "transactions": self.transactions,
            "events": self.events,
            "mode": self.mode,
            "why": self.why,
            "skipped": dict(self.skipped),
            "diverged": self.diverged,
        }
