"""Whole tables. Subject: `table/<schema.table>`."""

from schemas.values import EntityType, Payload, TableName


class TableTruncated(Payload):
    """A captured table was emptied at once: whatever was known of its rows is void, and no event tells of each."""

    table: TableName
    entity_types: tuple[EntityType, ...]
    """The types of entities whose rows, or whose parts, the table held."""
