"""The page of the documentation that lists the events, made from the catalogue and the payloads."""

import re
import sys

from events.catalogue import EVENT_TYPES, EventType
from events.channels import event_channel

_SUBJECT = re.compile(r"Subject: (.+?)\.(?:\s|$)")

_HEAD = """\
# Events

<!-- Written by `make generate` from events/catalogue.py and schemas/. -->

Each event is a [CloudEvents 1.0](https://cloudevents.io) object in JSON. It is in the log (`mbevents.event`, read by
`mbevents events list`), and on a Redis channel `MB:events:<name>` for who listens (`MB` is REDIS_NAMESPACE).
`cache.invalidated` is on its channel only.
JSON Schemas of the data are in `schemas/json/`, the AsyncAPI document is `schemas/asyncapi.json`.

| Attribute | What it is |
|---|---|
| `id` | The same for the same change, however often it is told: what to deduplicate by. |
| `type` | `org.musicbrainz.<name>.v<version>` |
| `source` | The database (EVENT_SOURCE). |
| `subject` | What it is about, like `artist/<MBID>` or `edit/<id>`. |
| `time` | When the transaction began. |
| `sequence` | The position in the log, without gaps: where to resume. Of `cache.invalidated`, its cause's. |
| `data` | Ids and what changed: never whole rows, never anything private. |

Who listens on a channel hears what is published meanwhile, and may miss some, hear some twice, or hear what somebody
else put there. Who must not miss anything follows the log by position:

```python
import events

for event in events.follow(runtime.connect, runtime.channels, namespace="MB", after=position):
    ...  # and keep event.sequence with what comes of it: where to go on after a restart
```

(`runtime`: see [Redis](redis.md#from-python); `namespace` is REDIS_NAMESPACE.)

Each event comes once, in order, about a millisecond after it was published, or within a second of its commit while
Redis is away. What Redis says is only when to look: every event is read from the log. `types` chooses, `stop` (a
`threading.Event`) ends it. It raises `PositionLostError` when events are gone from the log that were still to come (too
old: EVENT_RETENTION_DAYS), and `PositionAheadError` when the log ends before the position (another database, or a
restored one). With `telemetry=runtime.telemetry, name="…"` there are [metrics](metrics.md) of how far behind it is, and
of what it hears. `mbevents events tail --after POSITION --json` is the same on the command line; go on with the highest
sequence that it printed.

| Event | Subject | When | Work that it causes |
|---|---|---|---|
"""


def events_page() -> str:
    """In Markdown."""
    rows = [_row(event) for event in EVENT_TYPES.values()]
    return _HEAD + "\n".join(rows) + "\n\n" + "\n".join(_section(event) for event in EVENT_TYPES.values())


def _row(event: EventType) -> str:
    work = ", ".join(f"`{actor.name}`" for actor in event.actors) or "–"
    return f"| [`{event.name}`](#{event.name.replace('.', '')}) | {_subject(event)} | {_meaning(event)} | {work} |"


def _section(event: EventType) -> str:
    lines = [
        f"## {event.name}",
        "",
        f"`{event.full_name}` on `{event_channel('MB', event.name)}`. {_meaning(event)}",
        "",
    ]
    lines += ["| Data | Type | |", "|---|---|---|"]
    schema = event.payload.model_json_schema()
    for name, field in schema.get("properties", {}).items():
        lines.append(f"| `{name}` | {_type(field)} | {_cell(field.get('description', ''))} |")
    return "\n".join([*lines, ""])


def _subject(event: EventType) -> str:
    found = _SUBJECT.search(sys.modules[event.payload.__module__].__doc__ or "")
    assert found is not None, f"the module of {event.name}'s payload does not say what the subject is"
    return _cell(found[1])


def _meaning(event: EventType) -> str:
    return _cell(" ".join((event.payload.__doc__ or "").split()))


def _type(field: dict[str, object]) -> str:
    options = field.get("anyOf")
    if isinstance(options, list):
        return " or ".join(_type(option) for option in options)
    if "$ref" in field:
        return "object"
    if "enum" in field:
        return "text, one of a few"
    items = field.get("items")
    if field.get("type") == "array" and isinstance(items, dict):
        return f"list of {_type(items)}"
    if field.get("format") in ("uuid", "date-time"):
        return {"uuid": "MBID", "date-time": "time"}[str(field["format"])]
    kind = str(field.get("type", "any"))
    return {"string": "text", "integer": "number"}.get(kind, kind)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
