"""What programs of others need to run beside ours."""

import importlib.util
import re
from pathlib import Path


def mbslave_tables() -> str:
    """Statements that make what mbslave loads packets into: dbmirror2's schema, as mbdata ships it."""
    spec = importlib.util.find_spec("mbdata")
    assert spec is not None
    assert spec.submodule_search_locations
    text = (Path(spec.submodule_search_locations[0]) / "sql/dbmirror2/dbmirror2.sql").read_text(encoding="utf-8")
    # Without psql's commands, and in the caller's transaction.
    return "CREATE SCHEMA dbmirror2;" + re.sub(r"^\\.*$|^(BEGIN|COMMIT);$", "", text, flags=re.MULTILINE)
