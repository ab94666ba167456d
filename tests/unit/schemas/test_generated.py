"""The committed schemas are what the models say."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from events.catalogue import EVENT_TYPES
from ops.generate import ROOT, Generated, StaleError, asyncapi_document, generate, payload_schemas
from schemas.entity import EntityUpdated

FOLDER = ROOT / "schemas"


@pytest.mark.parametrize("wanted", [*payload_schemas(), *asyncapi_document()], ids=lambda wanted: wanted.path)
def test_a_committed_schema_is_what_its_model_says(wanted: Generated) -> None:
    assert (ROOT / wanted.path).read_bytes() == wanted.content, "run: make generate"


def test_there_is_one_schema_for_each_type_and_no_other() -> None:
    assert {file.name for file in (FOLDER / "json").iterdir()} == {
        f"{event.name}.v{event.version}.json" for event in EVENT_TYPES.values()
    }


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = orjson.loads((FOLDER / "asyncapi.json").read_bytes())
    references = list(_references(document))
    assert len(references) > len(EVENT_TYPES) * 4
    for reference in references:
        if reference.startswith("#/"):
            target: Any = document
            for step in reference[2:].split("/"):
                target = target[step]
        else:
            assert (FOLDER / reference).is_file()


def test_every_channel_is_described_by_its_address() -> None:
    document = orjson.loads((FOLDER / "asyncapi.json").read_bytes())
    assert document["asyncapi"] == "3.0.0"
    assert {channel["address"] for channel in document["channels"].values()} == {
        f"{{namespace}}:events:{name}" for name in EVENT_TYPES
    }


def test_payloads_take_no_field_that_is_not_theirs() -> None:
    data = {"entity_type": "artist", "id": 1, "mbid": "00000000-0000-4000-8000-000000000001", "changes": []}
    assert EntityUpdated.model_validate(data).previous_mbid is None
    with pytest.raises(ValidationError, match="email"):
        EntityUpdated.model_validate(data | {"email": "a@b.example"})
    with pytest.raises(ValidationError, match="mbid"):
        EntityUpdated.model_validate(data | {"mbid": "Artist"})


def test_stale_and_orphaned_files_are_told_by_check_and_put_right_otherwise(tmp_path: Path) -> None:
    orphan = tmp_path / "schemas/json/gone.v1.json"
    orphan.parent.mkdir(parents=True)
    orphan.write_text("{}")
    with pytest.raises(StaleError, match=r"gone\.v1\.json.*make generate"):
        generate(tmp_path, check=True, generators=[payload_schemas])
    assert orphan.exists()
    assert len(generate(tmp_path, check=False, generators=[payload_schemas])) == len(EVENT_TYPES) + 1
    assert not orphan.exists()
    assert generate(tmp_path, check=True, generators=[payload_schemas]) == []


def _references(node: Any) -> Any:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
