"""artwork.changed, artwork.moved, artwork.removed: one for an image and transaction."""

from collections.abc import Iterator, Mapping
from typing import Any

from events.derivation.drafting import Drafting, Ordered
from events.derivation.state import ENTITY_KINDS, KIND_BITS, KIND_MASK, Image


def artwork_drafts(drafting: Drafting, owner_types: Mapping[int, str]) -> Iterator[Ordered]:
    """`owner_types` says whose images are of a kind: releases' or events'."""
    for key, image in drafting.tx.extras.images.items():
        told = _draft(drafting, key >> KIND_BITS, image, owner_types[key & KIND_MASK])
        if told is not None:
            yield told


def _draft(drafting: Drafting, image_id: int, image: Image, entity_type: str) -> Ordered | None:
    removed = image.seen and image.after is None
    # An image that was moved and then removed was its old owner's, as the archive knows it.
    owner = image.before or image.last if removed else image.after
    if owner is None:
        drafting.unresolved()
        return None
    owner_id, mime_type = owner
    kind = ENTITY_KINDS[entity_type]
    mbid = drafting.mbid(kind, owner_id)
    if mbid is None:
        return None
    data: dict[str, Any] = {"entity_type": entity_type, "id": owner_id, "mbid": mbid, "image_id": image_id}
    if removed:
        event = "artwork.removed"
        data["mime_type"] = mime_type
    elif image.before is not None and image.before[0] != owner_id:
        from_mbid = drafting.mbid(kind, image.before[0])
        if from_mbid is None:
            return None
        event = "artwork.moved"
        data |= {"mime_type": mime_type, "from_id": image.before[0], "from_mbid": from_mbid}
    else:
        event = "artwork.changed"
        added = image.seen and image.before is None
        data |= {"action": "insert" if added else "update", "changes": image.touch.told()}
    return drafting.draft(image.touch.first, 4, event, f"{entity_type}/{mbid}", data)
