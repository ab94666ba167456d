"""Sessions: opened, read, renewed, written, ended."""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import structlog

from events.errors import MbeventsError, UnreachableError
from events.telemetry import NoTelemetry, Telemetry
from workers.nonsense import refuse

from .core import ID_BYTES, Session, checked_editor, encode, hashed, is_session_id, plan

log = structlog.get_logger(__name__)

MOST_SESSIONS = 100
"""Of one editor; with one more, the oldest ends."""

WithoutRedis = Literal["refuse", "anonymous"]


class SessionsUnavailableError(UnreachableError):
    """The Redis of the sessions does not answer, or is full: who is signed in is not known."""


class SessionEndedError(MbeventsError):
    """The session that was to be written has ended, or never was."""


class SignInRefusedError(MbeventsError):
    """This editor may not sign in: there is none, it was deleted, or is a spammer."""


class Store(Protocol):
    """Where sessions are, by hashed id. Each method is one atomic step at the server, on its clock; it may be repeated.

    All raise SessionsUnavailableError.
    """

    def open(self, name: str, editor_id: int | None, data: Mapping[bytes, bytes], *, old: str | None) -> Session:
        """With the data of the old one, which ends, unless that was another editor's."""
        ...

    def read(self, name: str, *, renew: bool) -> Session | None: ...

    def write(self, name: str, data: Mapping[bytes, bytes]) -> bool:
        """False if there is no such session. Raises UsageError when it would hold too much."""
        ...

    def end(self, name: str, *, everywhere: bool) -> int:
        """This one, or all of its editor's; how many ended: 0 if this one did not stand."""
        ...

    def end_all(self, editor_id: int) -> int: ...

    def of_editor(self, editor_id: int) -> list[Session]: ...


class Editors(Protocol):
    """Who has an account, as the database is now: never a copy that lags."""

    def may_sign_in(self, editor_id: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A new session, and its id: the only time that it is told."""

    id: str = field(repr=False)
    session: Session


class Sessions:
    """Sessions by their secret id, of which only a hash is kept.

    An id is whatever a client sent: what is no id, or of no session, is nobody's, and is never made one.
    `without_redis`: what a session is to who reads it while Redis is away: "refuse" raises SessionsUnavailableError,
    "anonymous" has it that nobody is signed in. Whatever changes something raises.
    """

    def __init__(
        self,
        store: Store,
        editors: Editors,
        *,
        without_redis: WithoutRedis = "refuse",
        telemetry: Telemetry | None = None,
    ) -> None:
        self._store = store
        self._editors = editors
        self._without_redis = without_redis
        self._telemetry = telemetry or NoTelemetry()

    def begin(self, data: Mapping[str, Any]) -> Opened:
        """A session of nobody, for what must be remembered until somebody signs in."""
        fields = encode(data)
        with self._counted("begin"):
            return self._open(None, fields, None)

    def sign_in(self, editor_id: int, old_id: str | None = None) -> Opened:
        """A session of an editor under a new id, which ends later than any before it; the old id is void.

        What the old session held goes along, unless it was another editor's. Raises SignInRefusedError.
        """
        checked_editor(editor_id)
        with self._counted("sign_in") as counted:
            opened = self._open(editor_id, {}, old_id)
            allowed = False
            try:
                # Only now: who is barred after this look is signed out by the event of it, which finds the session.
                allowed = self._editors.may_sign_in(editor_id)
            finally:
                if not allowed:
                    # If not even that can be done it expires: nobody was told its id.
                    with suppress(SessionsUnavailableError):
                        self._store.end(hashed(opened.id), everywhere=False)
            if not allowed:
                counted.outcome = "refused"
                raise SignInRefusedError(f"Editor {editor_id} may not sign in: deleted, a spammer, or not there.")
            return opened

    def get(self, session_id: str) -> Session | None:
        """The session, renewed by being used; None if there is none."""
        return self._read("read", session_id, renew=True)

    def look(self, session_id: str) -> Session | None:
        """The session; to be looked at does not keep it from ending."""
        return self._read("look", session_id, renew=False)

    def write(self, session_id: str, data: Mapping[str, Any]) -> None:
        """Keep JSON by name; None takes a name away.

        Of those who write one name at once the last one wins; other names stay as they are.
        Raises SessionEndedError, and UsageError for what is too much or no JSON.
        """
        fields = encode(data)
        with self._counted("write") as counted:
            if not is_session_id(session_id) or not self._store.write(hashed(session_id), fields):
                counted.outcome = "none"
                raise SessionEndedError("This session has ended, and what was to be kept in it is not. Sign in again.")

    def end(self, session_id: str) -> bool:
        """Log out; False if there was no such session."""
        return bool(self._end("end", session_id, everywhere=False))

    def end_everywhere(self, session_id: str) -> int:
        """Log out, with every session of this one's editor; how many. 0 if this one had ended: it ends no others."""
        return self._end("end_everywhere", session_id, everywhere=True)

    def end_all(self, editor_id: int) -> int:
        """End every session of an editor; how many."""
        checked_editor(editor_id)
        with self._counted("end_all") as counted:
            ended = self._store.end_all(editor_id)
            counted.found(ended)
            return ended

    def of_editor(self, editor_id: int) -> list[Session]:
        """The sessions of an editor, the one that ends first first."""
        checked_editor(editor_id)
        with self._counted("list"):
            return self._store.of_editor(editor_id)

    def end_barred(self, events: Iterable[Any]) -> None:
        """End the sessions of whom CloudEvents (dictionaries) tell that they were deleted or are spammers.

        Raises InvalidEventsError for those that make no sense, after doing what the others ask for.
        """
        asked = plan(events)
        for editor_id in asked.editor_ids:
            ended = self.end_all(editor_id)
            log.info("sessions_ended", editor_id=editor_id, sessions=ended)
        refuse(asked.problems)

    def _open(self, editor_id: int | None, fields: Mapping[bytes, bytes], old_id: str | None) -> Opened:
        session_id = secrets.token_urlsafe(ID_BYTES)
        old = hashed(old_id) if old_id is not None and is_session_id(old_id) else None
        return Opened(session_id, self._store.open(hashed(session_id), editor_id, fields, old=old))

    def _read(self, operation: str, session_id: str, *, renew: bool) -> Session | None:
        if not is_session_id(session_id):
            return None
        try:
            with self._counted(operation) as counted:
                found = self._store.read(hashed(session_id), renew=renew)
                counted.found(found)
                return found
        except SessionsUnavailableError:
            if self._without_redis == "refuse":
                raise
            return None

    def _end(self, operation: str, session_id: str, *, everywhere: bool) -> int:
        if not is_session_id(session_id):
            return 0
        with self._counted(operation) as counted:
            ended = self._store.end(hashed(session_id), everywhere=everywhere)
            counted.found(ended)
            return ended

    @contextmanager
    def _counted(self, operation: str) -> Iterator["_Counted"]:
        counted = _Counted()
        try:
            yield counted
        except SessionsUnavailableError:
            counted.outcome = "unavailable"
            raise
        except Exception:
            if counted.outcome == "done":
                counted.outcome = "failed"
            raise
        finally:
            self._telemetry.count("mbevents_session_operations_total", operation=operation, outcome=counted.outcome)


class _Counted:
    def __init__(self) -> None:
        self.outcome = "done"

    def found(self, what: object) -> None:
        if not what:
            self.outcome = "none"
