"""`mbevents sessions`: who is signed in. Ids of sessions are not kept, so none is ever shown."""

from typing import Annotated

import typer

from ops.cli.common import AsJson, plural, runtime
from ops.cli.output import put_json, put_table, say

app = typer.Typer(help="Sessions of editors.", no_args_is_help=True)

EditorId = Annotated[int, typer.Argument(help="The editor's row id.", min=1, max=2**31 - 1)]


@app.command("list")
def list_sessions(editor_id: EditorId, as_json: AsJson = False) -> None:
    """Print when an editor's sessions began and when they end."""
    with runtime(database=False) as parts:
        found = parts.sessions.of_editor(editor_id)
    times = [{"began": each.began, "idle_ends": each.idle_ends, "ends": each.ends} for each in found]
    if as_json:
        put_json({"editor_id": editor_id, "sessions": times})
        return
    put_table(("BEGAN", "ENDS UNUSED", "ENDS"), (tuple(each.values()) for each in times))
    say(f"{plural(len(found), 'session')} of editor {editor_id}.")


@app.command()
def end(editor_id: EditorId, as_json: AsJson = False) -> None:
    """End every session of an editor: log out everywhere."""
    with runtime(database=False) as parts:
        ended = parts.sessions.end_all(editor_id)
    if as_json:
        put_json({"editor_id": editor_id, "ended": ended})
        return
    say(f"Ended {plural(ended, 'session')} of editor {editor_id}.")
