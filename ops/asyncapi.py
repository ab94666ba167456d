"""The AsyncAPI document: what is told on which channel, made from the catalogue."""

from collections.abc import Iterable
from typing import Any

from events.catalogue import EventType
from events.channels import event_channel

# Payloads refer to the files beside the document, so that each schema is written once.
_SCHEMAS = "./json/"

_ENVELOPE = {
    "type": "object",
    "description": "CloudEvents 1.0, structured mode.",
    "required": [
        "specversion",
        "id",
        "type",
        "source",
        "subject",
        "time",
        "datacontenttype",
        "sequence",
        "data",
    ],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "description": "Deterministic: the same change told again has the same id."},
        "type": {"type": "string"},
        "source": {"type": "string", "format": "uri-reference", "description": "The database."},
        "subject": {"type": "string", "description": "What it is about, e.g. artist/<MBID>, edit/<id>."},
        "time": {"type": "string", "format": "date-time", "description": "When the transaction began."},
        "datacontenttype": {"const": "application/json"},
        "sequence": {"type": "string", "description": "The position in the log: gapless, from where one resumes."},
        "data": {"type": "object"},
    },
}


def document(version: str, events: Iterable[EventType]) -> dict[str, Any]:
    """AsyncAPI 3.0, ready for JSON; `version` is the release's."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for event in events:
        key = event.name.replace(".", "_")
        messages[key] = _message(event)
        channels[key] = {
            "address": event_channel("{namespace}", event.name),
            "messages": {key: {"$ref": f"#/components/messages/{key}"}},
            "parameters": {"namespace": {"$ref": "#/components/parameters/namespace"}},
        }
        operations[f"tell_{key}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{key}"},
            "messages": [{"$ref": f"#/channels/{key}/messages/{key}"}],
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "mbevents",
            "version": version,
            "description": "Every committed change of a MusicBrainz database as an event. Pub/sub is a wake-up and may "
            "lose messages; the log, by position, does not.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": {"envelope": _ENVELOPE},
            "parameters": {
                "namespace": {"description": "REDIS_NAMESPACE of the installation.", "default": "MB"},
            },
        },
    }


def schema_file(event: EventType) -> str:
    """`entity.updated.v1.json`: the JSON Schema of an event's data."""
    return f"{event.name}.v{event.version}.json"


def _message(event: EventType) -> dict[str, Any]:
    return {
        "name": event.full_name,
        "title": event.name,
        "summary": (event.payload.__doc__ or "").strip(),
        "contentType": "application/cloudevents+json",
        "payload": {
            "allOf": [
                {"$ref": "#/components/schemas/envelope"},
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": event.full_name},
                        "data": {"$ref": f"{_SCHEMAS}{schema_file(event)}"},
                    },
                },
            ]
        },
    }
