"""The values that the payloads share."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

EntityType = Literal[
    "area",
    "artist",
    "event",
    "genre",
    "instrument",
    "label",
    "place",
    "recording",
    "release",
    "release_group",
    "series",
    "url",
    "work",
]

ENTITY_TYPES: tuple[EntityType, ...] = get_args(EntityType)

Mbid = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", json_schema_extra={"format": "uuid"}
    ),
]

Operation = Literal["insert", "update", "delete"]


def _is_table(name: str) -> str:
    schema, dot, table = name.partition(".")
    if not (schema and dot and table):
        raise ValueError(f"{name!r} is not schema.table")
    return name


TableName = Annotated[str, AfterValidator(_is_table), Field(examples=["musicbrainz.artist_alias"])]


class Payload(BaseModel):
    """The data of an event: ids and what changed, never whole rows and nothing private."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RowsChanged(Payload):
    """Rows of one table that changed in the same way."""

    table: TableName
    op: Operation
    columns: tuple[str, ...] = Field(description="The columns that an update changed; empty for inserts and deletes.")
    rows: int = Field(ge=1, description="How many. A row that leads to the entity in two ways may count twice.")
