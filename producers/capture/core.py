"""What to install and what to take away: decided from what the database's catalogue says."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import md5
from typing import Any, Literal

from events.errors import UsageError
from events.tables import EDITOR, Table, quote_ident
from producers.capture.facts import (
    BOOKKEEPING,
    EVERY_CHANGE,
    OUTBOX,
    RECORD_EDITOR,
    RECORDCHANGE,
    VERSION,
    Facts,
    ReplicationType,
)
from producers.capture.faults import Fault, changes, refusals

SCHEMAS_OF_OURS = ("mbevents", "dbmirror2")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. `made` is recorded of what becomes an object of ours: the digest of its source."""

    action: Literal["create", "replace", "run", "drop", "record"]
    kind: Literal["schema", "table", "function", "trigger", "script", "version"]
    name: str
    statement: str
    made: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What install or uninstall does, in order; `locked` are the tables that must be locked against writers.

    `foreign`: dbmirror2's own capture is there and is used. `done`: it changed something.
    """

    steps: tuple[Step, ...]
    foreign: bool = False
    done: bool = False

    @property
    def locked(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(step.name.split(" ON ", 1)[1] for step in self.steps if step.kind == "trigger"))

    @property
    def lines(self) -> list[str]:
        """For people: a line for each step, but one for all triggers of the same kind."""
        counted = Counter(_line(step) for step in self.steps)
        return [line if count == 1 else f"{line} ({count} tables)" for line, count in counted.items()]

    def to_dict(self) -> dict[str, Any]:
        return {
            "steps": [{"action": each.action, "kind": each.kind, "name": each.name} for each in self.steps],
            "foreign_capture": self.foreign,
            "done": self.done,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What `check` found: `version` is None where nothing is installed; all is well when there are no faults."""

    version: int | None
    foreign: bool
    captured: int
    faults: tuple[Fault, ...]

    @property
    def ok(self) -> bool:
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "version": self.version,
            "foreign_capture": self.foreign,
            "captured_tables": self.captured,
            "faults": [{"code": each.code, "what": each.what, "fix": each.fix} for each in self.faults],
        }


def digest(source: str) -> str:
    return md5(source.encode(), usedforsecurity=False).hexdigest()


def plan_install(facts: Facts, replication_type: ReplicationType, definitions: Mapping[str, str]) -> Plan:
    """What is missing. `definitions` are the sources by qualified name, and those of scripts by package (`events.log`).

    Raises the error of the first fault, told with all others, when the database cannot be served.
    """
    found = list(refusals(facts, replication_type))
    if found:
        text = " ".join(f"{fault.what} {fault.fix}" for fault in found)
        raise found[0].error(f"Nothing was installed in database {facts.database}. {text}")
    steps = list(_objects(facts, replication_type, definitions))
    if replication_type != "RT_MIRROR":
        steps += _triggers(facts)
    if steps or facts.version != VERSION:
        record = (
            f"INSERT INTO mbevents.installed (version) VALUES ({VERSION}) "
            "ON CONFLICT (one) DO UPDATE SET version = excluded.version, installed_at = now()"
        )
        steps.append(Step("record", "version", str(VERSION), record))
    return Plan(tuple(steps), foreign=facts.foreign)


def report(facts: Facts, replication_type: ReplicationType, definitions: Mapping[str, str]) -> Report:
    """Everything that is wrong with an installation; a database without one has the fault that it has none."""
    faults = list(refusals(facts, replication_type))
    if not faults and facts.version is None:
        faults.append(Fault("not_installed", "Nothing of mbevents is installed.", "Run `mbevents db install`."))
    elif not faults:
        faults += changes(facts)
        missing = plan_install(facts, replication_type, definitions)
        faults += _missing(missing)
    captured = {trigger.table for trigger in facts.capturing()}
    return Report(facts.version, facts.foreign, len(captured), tuple(faults))


def plan_uninstall(facts: Facts) -> Plan:
    """Take away what is recorded as ours and still there, and the schema mbevents with all that is in it."""
    ours = [name for kind, name in facts.objects if kind == "trigger"]
    steps = [
        Step("drop", "trigger", trigger.full, f"DROP TRIGGER {trigger.full}")
        for trigger in facts.triggers
        if trigger.full in ours
    ]
    if ("function", RECORDCHANGE) in facts.objects and RECORDCHANGE in facts.functions:
        others = [trigger.full for trigger in facts.capturing() if trigger.full not in ours]
        if others:
            raise UsageError(
                f"Nothing was taken away from database {facts.database}: triggers that mbevents did not make use its "
                f"function {RECORDCHANGE}: {', '.join(others[:5])}. Drop them first (MusicBrainz's "
                "DropReplicationTriggers2.sql does)."
            )
        steps.append(Step("drop", "function", RECORDCHANGE, f"DROP FUNCTION {RECORDCHANGE}()"))
    tables = [name for kind, name in facts.objects if kind == "table" and name.startswith("dbmirror2.")]
    left = {name for name in facts.relations if name.startswith("dbmirror2.")} - set(tables)
    steps += [Step("drop", "table", name, f"DROP TABLE {name}") for name in sorted(tables) if name in facts.relations]
    if ("schema", "dbmirror2") in facts.objects and "dbmirror2" in facts.schemas and not left:
        steps.append(Step("drop", "schema", "dbmirror2", "DROP SCHEMA dbmirror2"))
    if "mbevents" in facts.schemas:
        steps.append(Step("drop", "schema", "mbevents", "DROP SCHEMA mbevents CASCADE"))
    return Plan(tuple(steps), foreign=facts.foreign)


def _missing(plan: Plan) -> Iterator[Fault]:
    fix = "Run `mbevents db install`."
    for step in plan.steps:
        what = f"{step.kind.capitalize()} {step.name}"
        if step.action == "create" and step.kind == "trigger":
            yield Fault("trigger_missing", f"{what} is missing: {_trigger_loss(step)}.", fix)
        elif step.action == "create":
            yield Fault(f"{step.kind}_missing", f"{what} is missing.", fix)
        elif step.action == "replace":
            yield Fault("function_changed", f"{what} is not what this release installs.", fix)
        elif step.action == "run":
            yield Fault("script_outdated", f"The tables of {step.name} are not those of this release.", fix)
        elif len(plan.steps) == 1:
            yield Fault("version_outdated", f"An older version than {VERSION} is installed.", fix)


def _trigger_loss(step: Step) -> str:
    name = step.name.split(" ON ", 1)[0]
    return {
        "mbevents_outbox": "what happens to it becomes no event",
        "mbevents_truncate": "a TRUNCATE of it goes unnoticed",
        "mbevents_hint": "the bridge is not woken",
    }.get(name, "its changes are not captured")


def _line(step: Step) -> str:
    """The same for all triggers of the same kind, which are hundreds."""
    name = step.name
    if step.kind == "trigger":
        name = name.split(" ON ", 1)[0]
        name = "reptg2_…" if "reptg2_" in name else name
    return f"{step.action} {step.kind} {name}"


def _objects(facts: Facts, replication_type: ReplicationType, definitions: Mapping[str, str]) -> Iterator[Step]:
    captures = replication_type != "RT_MIRROR"
    for schema in SCHEMAS_OF_OURS if captures else SCHEMAS_OF_OURS[:1]:
        if schema not in facts.schemas:
            yield Step("create", "schema", schema, f"CREATE SCHEMA {schema}", digest(schema))
    for name, source in definitions.items():
        is_script = not name.startswith(("dbmirror2.", "mbevents."))
        if is_script:
            known = facts.objects.get(("script", name))
            if known is None or known.made != digest(source):
                yield Step("run", "script", name, source, digest(source))
        elif not captures and name not in BOOKKEEPING:
            continue
        elif "CREATE TABLE" in source:
            if name not in facts.relations:
                yield Step("create", "table", name, source, digest(source))
        elif not (name == RECORDCHANGE and facts.foreign):
            yield from _function(facts, name, source)


def _function(facts: Facts, name: str, source: str) -> Iterator[Step]:
    known, found = facts.objects.get(("function", name)), facts.functions.get(name)
    if found is None:
        yield Step("create", "function", name, source, digest(source))
    elif known is None or known.made != digest(source) or known.found != found:
        yield Step("replace", "function", name, source, digest(source))


def _triggers(facts: Facts) -> Iterator[Step]:
    there = {(trigger.table, trigger.function) for trigger in facts.triggers}
    for table in facts.captured:
        if not any(trigger.events & EVERY_CHANGE == EVERY_CHANGE for trigger in facts.capturing(table.full)):
            function = RECORD_EDITOR if table.full == EDITOR else RECORDCHANGE
            yield _trigger(f"reptg2_{table.name}", table.full, "INSERT OR DELETE OR UPDATE", "ROW", function)
    for full, function in OUTBOX.items():
        if (full, function) not in there:
            yield _trigger("mbevents_outbox", full, "INSERT OR DELETE OR UPDATE", "ROW", function)
    for table in watched(facts):
        if (table.full, "mbevents.record_truncate") not in there:
            yield _trigger("mbevents_truncate", table.full, "TRUNCATE", "STATEMENT", "mbevents.record_truncate")
    if facts.foreign and ("dbmirror2.pending_ts", "mbevents.hint_of_transaction") not in there:
        yield _trigger("mbevents_hint", "dbmirror2.pending_ts", "INSERT", "ROW", "mbevents.hint_of_transaction")


def watched(facts: Facts) -> list[Table]:
    """Tables that get triggers of ours."""
    return [table for table in facts.tables if table.replicated or table.full in OUTBOX]


def _trigger(name: str, table: str, events: str, level: str, function: str) -> Step:
    full = f"{quote_ident(name)} ON {table}"
    statement = (
        f"CREATE TRIGGER {quote_ident(name)} AFTER {events} ON {table} FOR EACH {level} EXECUTE FUNCTION {function}()"
    )
    return Step("create", "trigger", full, statement, digest(statement))
