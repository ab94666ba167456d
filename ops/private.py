"""What must not leave in a log line or an error report: e-mail addresses, passwords, rows and messages."""

import re
from typing import Any

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_PASSWORD = re.compile(r"(\w+://[^\s:/@]*):[^\s@/]+@")
_KEYWORD = re.compile(r"((?:ssl)?password|\btoken)\s*=\s*(?:'(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE)
# PostgreSQL quotes whole rows in these parts of an error, and pydantic what it was given.
_POSTGRES = re.compile(r"^(?:DETAIL|CONTEXT|HINT|QUERY):.*(?:\n[ \t]+.*)*", re.MULTILINE)
_PYDANTIC = re.compile(r"input_value=.*?(?=, input_type=|\]\n|\]$|$)", re.MULTILINE | re.DOTALL)
_DEPTH = 6


def scrubbed(text: str) -> str:
    """Text from anywhere, as it may be told."""
    text = _PASSWORD.sub(r"\1:***@", text)
    text = _KEYWORD.sub(r"\1=***", text)
    text = _EMAIL.sub("<e-mail>", text)
    text = _POSTGRES.sub("(a row is not told)", text)
    return _PYDANTIC.sub("input_value=(not told)", text)


def described(error: BaseException) -> str:
    """The first line of an error, as it may be kept and shown."""
    lines = [line.strip() for line in scrubbed(str(error)).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def scrubbed_value(value: Any, depth: int = _DEPTH) -> Any:
    """The same for whatever a log line holds; what is nested without end is cut."""
    if isinstance(value, str):
        return scrubbed(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth == 0:
        return "…"
    if isinstance(value, dict):
        return {scrubbed(str(key)): scrubbed_value(each, depth - 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [scrubbed_value(each, depth - 1) for each in value]
    return scrubbed(str(value))
