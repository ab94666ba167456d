"""Images of the Cover Art Archive and the Event Art Archive. Subject: `release/<MBID>` or `event/<MBID>`."""

from typing import Literal

from pydantic import Field

from schemas.values import Mbid, Operation, Payload, RowsChanged


class _Artwork(Payload):
    entity_type: Literal["release", "event"]
    id: int
    mbid: Mbid
    image_id: int


class ArtworkChanged(_Artwork):
    """An image was added, or it or its types changed; `edits_pending` alone is no change."""

    action: Operation = Field(description="insert for a new image, else update.")
    changes: tuple[RowsChanged, ...]


class ArtworkMoved(_Artwork):
    """An image belongs to another entity now, as after a merge. Subject: the new owner."""

    mime_type: str
    from_id: int
    from_mbid: Mbid


class ArtworkRemoved(_Artwork):
    """An image was removed, or its entity with it."""

    mime_type: str
