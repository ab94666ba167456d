"""What is counted, and when again.

Names are those of MusicBrainz Server's own statistics where it has them. What one query counts is a survey, and one
entry of the cache; beside it stands a copy that outlives it, so that there is always something to tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from schemas.values import ENTITY_TYPES

from .. import tags

# Counting takes no more than this share of the time, however often its entry is invalidated: of 30 million recordings
# some come or go every minute.
SHARE = 0.02
# For this long after its end the last count is still told.
KEPT_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Survey:
    """What one query counts. `tag`: what events invalidate it by; None: it lives by time."""

    name: str
    statistics: tuple[str, ...]
    tag: str | None = None

    @property
    def copy(self) -> str:
        """The entry that outlives the survey's own."""
        return f"last:{self.name}"

    @property
    def tags(self) -> tuple[str, ...]:
        return () if self.tag is None else (self.tag,)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a survey found; `seconds`: how long that took. A value is None where there is no such thing."""

    values: Mapping[str, int | None]
    counted_at: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class Statistic:
    """One number as it was last counted. `expired`: it may have changed since, or is too old; it is None with
    everything else when it was never counted."""

    name: str
    value: int | None
    counted_at: datetime | None
    seconds: float | None
    expired: bool


SURVEYS: tuple[Survey, ...] = (
    *(Survey(each, (f"count.{each.replace('_', '')}",), tags.counted(each)) for each in ENTITY_TYPES),
    Survey("editors", ("count.editor", "count.editor.valid", "count.editor.deleted")),
    Survey(
        "activity",
        (
            "count.editor.activelastweek",
            "count.editor.editlastweek",
            "count.editor.votelastweek",
            "count.edit.perday",
            "count.edit.perweek",
        ),
    ),
    Survey(
        "edits",
        (
            "count.edit",
            "count.edit.open",
            "count.edit.applied",
            "count.edit.failedvote",
            "count.edit.faileddep",
            "count.edit.error",
            "count.edit.failedprereq",
            "count.edit.novotes",
            "count.edit.deleted",
        ),
    ),
    Survey(
        "votes",
        (
            "count.vote",
            "count.vote.yes",
            "count.vote.no",
            "count.vote.abstain",
            "count.vote.approve",
            "count.vote.perday",
            "count.vote.perweek",
        ),
    ),
    Survey("notes", ("count.editnote",)),
    Survey("coverart", ("count.coverart", "count.release.has_caa")),
    Survey("eventart", ("count.eventart", "count.event.has_eaa")),
    Survey("packets", ("replication.sequence", "replication.exported", "replication.applied")),
)


def is_due(left: float | None, last: Counted | None, *, now: datetime, margin: float) -> bool:
    """Whether to count. `left`: seconds that the survey's entry is fresh, None when it is void or gone; `margin`: those
    before its end at which it is counted again, so that it is never without."""
    if left is not None:
        return left < margin
    return last is None or (now - last.counted_at).total_seconds() >= last.seconds / SHARE


def encode(counted: Counted) -> bytes:
    return orjson.dumps(
        {"values": counted.values, "counted_at": counted.counted_at.isoformat(), "seconds": counted.seconds}
    )


def decode(body: bytes | None) -> Counted | None:
    """None for what could not be counted, or what we did not write."""
    try:
        raw = orjson.loads(body or b"")
        counted_at = datetime.fromisoformat(raw["counted_at"]).astimezone(UTC)
        return Counted(dict(raw["values"]), counted_at, float(raw["seconds"]))
    except (ValueError, TypeError, KeyError):
        return None


def told(surveys: Sequence[Survey], fresh: Sequence[Counted | None], last: Sequence[Counted | None]) -> list[Statistic]:
    """Every statistic: from its survey's own entry, else from the copy."""
    found = []
    for survey, counted, copy in zip(surveys, fresh, last, strict=True):
        for name in survey.statistics:
            known = counted or copy
            if known is None:
                found.append(Statistic(name, None, None, None, expired=True))
            else:
                value = known.values.get(name)
                found.append(Statistic(name, value, known.counted_at, known.seconds, expired=counted is None))
    return found
