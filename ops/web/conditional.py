"""HTTP's conditional requests and ranges (RFC 9110), as far as whole files that do not change need them."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import NamedTuple

# Longer than any single range; of several at once the whole is sent, which is always right.
_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,20})-([0-9]{0,20})", re.IGNORECASE)


class Part(NamedTuple):
    """Bytes from `start` to before `end`."""

    start: int
    end: int


class UnsatisfiableError(Exception):
    """A range that has no byte of the file."""


def http_date(moment: datetime) -> str:
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def is_unchanged(headers: Mapping[str, str], etag: str, modified: datetime) -> bool:
    """Whether the client has it already: 304."""
    if "if-none-match" in headers:
        return is_known(headers, etag)
    since = _date(headers.get("if-modified-since"))
    return since is not None and modified.replace(microsecond=0) <= since


def is_known(headers: Mapping[str, str], etag: str) -> bool:
    """The same by If-None-Match alone, for what has no time of modification."""
    given = headers.get("if-none-match", "")
    return given.strip() == "*" or f'"{etag}"' in {each.strip().removeprefix("W/") for each in given.split(",")}


def wanted_part(headers: Mapping[str, str], size: int, etag: str, modified: datetime) -> Part | None:
    """The range that is asked for, None for the whole. Raises UnsatisfiableError: 416."""
    found = _RANGE.fullmatch(headers.get("range", "").strip())
    if found is None or not _still(headers.get("if-range"), etag, modified):
        return None
    first, last = found[1], found[2]
    if not first and not last:
        return None
    if not first:
        part = Part(max(0, size - int(last)), size)
    elif last and int(last) < int(first):
        return None
    else:
        part = Part(int(first), min(size, int(last) + 1) if last else size)
    if part.start >= part.end:
        raise UnsatisfiableError
    return part


def _still(condition: str | None, etag: str, modified: datetime) -> bool:
    """Whether the part would belong to what the client has the beginning of."""
    return condition is None or condition.strip() in {f'"{etag}"', http_date(modified)}


def _date(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = parsedate_to_datetime(text)
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
