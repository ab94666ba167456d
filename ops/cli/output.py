"""What a command prints: data on stdout, all else on stderr."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


def say(text: str) -> None:
    """Progress, warnings and errors."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@contextmanager
def told_meanwhile(text: str) -> Iterator[Callable[[str], None]]:
    """What is being done, said every two seconds as long as it takes; what is called with says it anew."""
    began, done = time.monotonic(), threading.Event()

    def progress(news: str) -> None:
        nonlocal text
        text = news

    def tell() -> None:
        while not done.wait(2):
            say(f"{text} … ({time.monotonic() - began:.0f} s)")

    teller = threading.Thread(target=tell, name="progress", daemon=True)
    teller.start()
    try:
        yield progress
    finally:
        done.set()
        teller.join()


def put(text: str) -> None:
    """A line of data."""
    sys.stdout.write(f"{text}\n")


def put_now(text: str) -> None:
    """A line of data that is not to wait for the next."""
    put(text)
    sys.stdout.flush()


def put_json(value: Any) -> None:
    """The data as one JSON object."""
    put(json.dumps(value, default=_plain, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def put_line_json(value: Any) -> None:
    """One object of a stream: always on a line of its own."""
    put_now(json.dumps(value, default=_plain, ensure_ascii=False))


def put_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns; they are neither cut nor wrapped, so that they can be searched."""
    cells = [list(headers), *([_cell(each) for each in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    for row in cells:
        put("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def mark(ok: bool | None) -> str:
    """ok, FAULT or (for what could not be looked at) unknown; in colour on a terminal that wants it."""
    word, colour = {True: ("ok", 32), False: ("FAULT", 31), None: ("unknown", 33)}[ok]
    return f"\x1b[{colour}m{word}\x1b[0m" if colours(sys.stdout) else word


def colours(stream: Any) -> bool:
    import os

    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return str(value).replace("\n", " ")


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
