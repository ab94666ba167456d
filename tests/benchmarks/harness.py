"""What the benchmarks share: servers of their own, progress on stderr, one JSON object as the last line of stdout."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ops.stack
from ops.stack import Stack


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 (a benchmark's progress)


def report(result: dict[str, Any]) -> None:
    """The result, rounded so that people can read it."""
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in result.items()}
    print(json.dumps(rounded))  # noqa: T201 (the result)


@contextmanager
def servers() -> Iterator[Stack]:
    """PostgreSQL, as durable as in production, and Redis, in a folder of their own that goes away."""
    with tempfile.TemporaryDirectory(prefix="mbe-bench-") as home:
        os.chmod(home, 0o755)  # noqa: PTH101 (as root, PostgreSQL runs as another user, who must get in)
        with ops.stack.start(Path(home), progress=say) as stack:
            yield stack
