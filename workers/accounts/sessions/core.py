"""What a session is, how it is written down, and which events end sessions. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson

from events.errors import UsageError
from schemas.envelope import TYPE_PREFIX, short_name

# 256 bits in the alphabet of base64url, as `secrets.token_urlsafe(32)` writes them.
ID_BYTES = 32
_ID = re.compile(r"[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_DATA = b"data:"
MOST_BYTES = 4096
"""Of a session's data, names and JSON together."""

_LARGEST_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Session:
    """`editor_id` None: nobody is signed in. `ends` is the latest that it can end, `idle_ends` when it does if nobody
    uses it; both by the clock of Redis."""

    editor_id: int | None
    began: datetime
    ends: datetime
    idle_ends: datetime
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)


def is_session_id(text: str) -> bool:
    """Whether it could be one at all."""
    return _ID.fullmatch(text) is not None


def hashed(session_id: str) -> str:
    """What is known of an id to whoever reads Redis: 64 hexadecimal digits."""
    return sha256(session_id.encode()).hexdigest()


def checked_editor(editor_id: int) -> int:
    """Raises UsageError for what is no row id of an editor."""
    if not _is_editor_id(editor_id):
        raise UsageError(f"{editor_id!r:.60} is no id of an editor; one is a number from 1 to {_LARGEST_ID}.")
    return editor_id


def encode(data: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Fields of data as JSON; None, which takes a name away, is empty. Raises UsageError."""
    fields = {_field(name): b"" if value is None else _json(name, value) for name, value in data.items()}
    if size(fields) > MOST_BYTES:
        raise too_big()
    return fields


def size(fields: Mapping[bytes, bytes]) -> int:
    """Bytes of data, names and JSON together."""
    return sum(len(name) + len(value) for name, value in fields.items())


def too_big() -> UsageError:
    return UsageError(f"A session holds {MOST_BYTES:,} bytes at most; keep what is bigger elsewhere, and its id here.")


def decode(idle_ends: int, fields: Mapping[bytes, bytes]) -> Session | None:
    """The session of these fields, each of which is JSON; None if no release of ours wrote them. Times in ms."""
    try:
        known = {name: orjson.loads(value) for name, value in fields.items()}
        editor_id = known.get(b"editor")
        if editor_id is not None and not _is_editor_id(editor_id):
            return None
        return Session(
            editor_id,
            _moment(known[b"began"]),
            _moment(known[b"ends"]),
            _moment(idle_ends),
            {name[len(_DATA) :].decode(): value for name, value in known.items() if name.startswith(_DATA)},
        )
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


@dataclass(slots=True)
class Plan:
    """Editors whose sessions end, and what of the events made no sense."""

    editor_ids: dict[int, None] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def plan(events: Iterable[Any]) -> Plan:
    """Whose sessions end: of editors that were deleted, and of those that an update leaves as spammers."""
    asked = Plan()
    for event in events:
        try:
            name, data = _named(event)
            editor_id = data["editor_id"]
            if not _is_editor_id(editor_id):
                raise ValueError("without an editor")
        except (ValueError, KeyError, TypeError) as error:
            asked.problems.append(f"{str(error)!r:.80}")
            continue
        # An update of before this was told has no `spammer`.
        if name == "editor.deleted" or data.get("spammer") is True:
            asked.editor_ids[editor_id] = None
    return asked


def _named(event: Any) -> tuple[str, Mapping[str, Any]]:
    kind = event["type"]
    if not isinstance(kind, str) or not kind.startswith(TYPE_PREFIX):
        raise ValueError("without a type")
    name = short_name(kind)
    if name not in {"editor.deleted", "editor.updated"}:
        raise ValueError(f"{name} ends no session")
    return name, event["data"]


def _field(name: str) -> bytes:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r:.60} names nothing in a session: use a-z, 0-9 and _, 40 at most.")
    return _DATA + name.encode()


def _json(name: str, value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        raise UsageError(f"{name} in a session must have a form in JSON; {type(value).__name__} has none.") from None


def _is_editor_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST_ID


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
