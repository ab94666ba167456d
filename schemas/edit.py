"""Edits, votes and notes. Subject: `edit/<id>`. Never the text of a note."""

from pydantic import AwareDatetime, Field

from schemas.values import Payload


class EditOpened(Payload):
    """An edit was entered; an auto-edit is closed at once, by an event of its own."""

    edit_id: int
    editor_id: int
    type: int = Field(description="MusicBrainz's number of the kind of edit.")
    status: int = Field(description="1 open, 2 applied; others in the same transaction are rare.")
    autoedit: bool
    quality: int
    open_time: AwareDatetime | None
    expire_time: AwareDatetime


class EditClosed(Payload):
    """An edit is open no more."""

    edit_id: int
    editor_id: int
    type: int
    status: int = Field(
        description="2 applied, 3 failed vote, 4 failed dependency, 5 error, 6 failed prerequisite, 7 no votes, "
        "8 to be deleted, 9 deleted."
    )
    autoedit: bool
    close_time: AwareDatetime | None


class EditVoted(Payload):
    """An editor voted, or changed a vote: the vote before is superseded."""

    edit_id: int
    vote_id: int
    editor_id: int = Field(description="The voter.")
    vote: int = Field(description="-1 abstain, 0 no, 1 yes, 2 approve, 3 admin approve, 4 admin reject.")
    vote_time: AwareDatetime | None


class EditNoted(Payload):
    """An editor left a note."""

    edit_id: int
    note_id: int
    editor_id: int = Field(description="The author of the note.")
    post_time: AwareDatetime | None
