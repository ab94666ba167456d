"""Accounts. Subject: `editor/<id>`. Only what everybody may see on the editor's page."""

from typing import Final, Literal

from pydantic import Field

from schemas.values import Payload

SPAMMER: Final = 4096
"""The bit of `editor.privs` that MusicBrainz sets on who was found to be one."""


class EditorRegistered(Payload):
    """Somebody made an account."""

    editor_id: int
    name: str


class EditorUpdated(Payload):
    """An editor was renamed or got other privileges."""

    editor_id: int
    name: str
    columns: tuple[Literal["name", "privs", "deleted"], ...] = Field(description="What changed.")
    spammer: bool = Field(default=False, description="Whether the editor is marked as a spammer now, and so barred.")


class EditorDeleted(Payload):
    """An account was deleted. Its name is nobody's business any more."""

    editor_id: int
