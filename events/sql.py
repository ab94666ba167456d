"""Named SQL: one `queries.sql` beside the code that runs it."""

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def queries(package: str, filename: str = "queries.sql") -> dict[str, LiteralString]:
    """The statements of a package's SQL file by the name in the `-- name:` line above each.

    The text ships with the code, so it is as trustworthy as a literal: psycopg takes it as a query.
    """
    parts = _NAME.split(files(package).joinpath(filename).read_text(encoding="utf-8"))
    return {name: cast(LiteralString, text.strip()) for name, text in zip(parts[1::2], parts[2::2], strict=True)}
