"""Edits as MusicBrainz Server makes them: rows of the edit system, and the change itself in the same transaction."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from events.sql import queries

# MusicBrainz's numbers of the kinds of edits.
EDIT_ARTIST, MERGE_ARTISTS, ADD_RELATIONSHIP = 2, 4, 90
YES = 1


@dataclass(frozen=True, slots=True)
class Artist:
    id: int
    mbid: str
    name: str


@dataclass(frozen=True, slots=True)
class Committed:
    """A transaction that was committed: how many row changes capture wrote of it, and when COMMIT returned
    (`time.monotonic`). `result` is what the edit gave back, like its id."""

    rows: int
    at: float
    result: Any


class Edits:
    """Works on an autocommitting connection that the editors share; each edit is one transaction."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection
        self._sql = queries("ops.demo", "edits.sql")

    # What is there

    def prepare(self, *, artist: int, recordings: int) -> None:
        """Before anything is captured: vocabulary, and recordings of an artist for a bulk change."""
        with self._connection.transaction():
            self.run("vocabulary")
            self.run("enlarge", artist=artist, recordings=recordings)

    def artist(self, mbid: str) -> Artist:
        return Artist(*self.rows("artist", mbid=mbid)[0])

    def shows(self, artist: Artist) -> list[tuple[str, str]]:
        """Entity type and MBID of what shows the artist's name."""
        return [(entity_type, mbid) for entity_type, mbid in self.rows("shows", artist=artist.id)]

    def recordings(self, artist: Artist) -> list[str]:
        return [mbid for (mbid,) in self.rows("recordings", artist=artist.id)]

    # What editors do

    def register(self, names: Sequence[str]) -> Committed:
        """Several accounts; the result is their ids."""
        return self._commit(lambda: [self.one("register", name=name) for name in names])

    def propose_name(self, artist: Artist, name: str, sort_name: str, *, editor: int) -> Committed:
        """An edit that waits for votes; the result is its id."""

        def propose() -> int:
            data = {"entity": {"id": artist.id, "gid": artist.mbid, "name": artist.name}, "new": {"name": name}}
            edit = self._edit(EDIT_ARTIST, editor, data | {"sort_name": sort_name}, [artist.id], applied=False)
            self.run("pend_artist", artist=artist.id, by=1)
            return edit

        return self._commit(propose)

    def vote(self, edit: int, *, editor: int) -> Committed:
        return self._commit(lambda: self.run("vote", edit=edit, editor=editor, vote=YES))

    def note(self, edit: int, text: str, *, editor: int) -> Committed:
        return self._commit(lambda: self.run("note", edit=edit, editor=editor, text=text))

    def apply_name(self, edit: int, artist: Artist, name: str, sort_name: str) -> Committed:
        """What the server does once an edit was accepted."""

        def apply() -> None:
            self.run("close_edit", edit=edit)
            self.run("close_edit_artist", edit=edit)
            self.run("rename_artist", artist=artist.id, name=name, sort_name=sort_name)
            self.run("pend_artist", artist=artist.id, by=-1)

        return self._commit(apply)

    def disambiguate(self, artist: Artist, comment: str, *, editor: int) -> Committed:
        """An auto-edit; the result is its id."""

        def apply() -> int:
            data = {"entity": {"id": artist.id, "gid": artist.mbid}, "new": {"comment": comment}}
            edit = self._edit(EDIT_ARTIST, editor, data, [artist.id], applied=True)
            self.run("disambiguate_artist", artist=artist.id, comment=comment)
            return edit

        return self._commit(apply)

    def merge(self, artist: Artist, into: Artist, *, editor: int) -> Committed:
        """What the old artist had moves, its MBID becomes a redirect, its row goes. The result is the edit's id."""

        def apply() -> int:
            data = {"old_entities": [{"id": artist.id, "name": artist.name}], "new_entity": {"id": into.id}}
            edit = self._edit(MERGE_ARTISTS, editor, data, [artist.id, into.id], applied=True)
            for old, credited, references in self.rows("credits", artist=artist.id):
                # Credits never change: what used this one gets another that credits the new artist by the old name.
                new = self.one("new_credit", name=credited, references=references)
                self.run("new_credit_name", credit=new, artist=into.id, name=artist.name)
                for table in ("recordings", "tracks"):
                    self.run(f"swap_credit_of_{table}", old=old, new=new)
                self.run("delete_credit_names", old=old)
                self.run("delete_credit", old=old)
            self.run("redirect_artist", artist=artist.id, into=into.id)
            self.run("delete_artist", artist=artist.id)
            return edit

        return self._commit(apply)

    def link(self, artist: Artist, url: str, *, editor: int) -> Committed:
        """The result is the edit's id and the URL's MBID."""

        def apply() -> tuple[int, str]:
            data = {"entity0": {"id": artist.id}, "entity1": {"name": url}, "type0": "artist", "type1": "url"}
            edit = self._edit(ADD_RELATIONSHIP, editor, data, [artist.id], applied=True)
            url_id, mbid = self.rows("new_url", url=url)[0]
            self.run("link_artist", link=self.one("new_link"), artist=artist.id, url=url_id)
            return edit, mbid

        return self._commit(apply)

    def correct_titles(self, mbids: Sequence[str], *, editor: int) -> Committed:
        """Many recordings in one transaction, each by an edit of its own; the result is the edits' ids."""
        return self._commit(lambda: [edit for (edit,) in self.rows("correct_titles", mbids=list(mbids), editor=editor)])

    def _edit(self, kind: int, editor: int, data: object, artists: Sequence[int], *, applied: bool) -> int:
        edit: int = self.one("open_edit", editor=editor, type=kind, applied=applied)
        self.run("edit_data", edit=edit, data=json.dumps(data))
        for artist in artists:
            self.run("edit_artist", edit=edit, artist=artist)
        return edit

    def _commit(self, work: Callable[[], Any]) -> Committed:
        with self._connection.transaction():
            result = work()
            rows = self.one("captured")
        return Committed(rows, time.monotonic(), result)

    # Statements

    def rows(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(self._sql[name], parameters or None).fetchall()

    def one(self, name: str, /, **parameters: Any) -> Any:
        return self.rows(name, **parameters)[0][0]

    def run(self, name: str, /, **parameters: Any) -> None:
        self._connection.execute(self._sql[name], parameters or None)
