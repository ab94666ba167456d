"""entity.created, entity.updated, entity.deleted, entity.merged: at most one for an MBID and transaction."""

from collections.abc import Iterator
from typing import Any

from events.derivation.drafting import Drafting, Ordered
from events.derivation.state import BORN, GONE, KIND_BITS, KIND_MASK, SEEN, Redirect, Touch, Transaction
from schemas.values import ENTITY_TYPES


def entity_drafts(drafting: Drafting) -> Iterator[Ordered]:
    """In the order of each entity's first change; where nothing else needs the MBIDs, gives memory back as it goes."""
    tx = drafting.tx
    merged = _merged(tx)
    touches = tx.entities
    keep = bool(tx.extras.redirects or tx.extras.relationships or tx.extras.images)
    # Almost sorted: only what came by way of parts is out of place.
    keys = sorted(touches, key=lambda key: touches[key].first) if len(touches) > 1 else list(touches)
    for key in keys:
        touch = touches[key] if keep else touches.pop(key)
        told = _draft(drafting, key, touch, merged.get(key))
        if told is None:
            drafting.unresolved()
        else:
            yield told


def redirect_drafts(drafting: Drafting) -> Iterator[Ordered]:
    """For old MBIDs that had no row any more: they lead to another entity now, or nowhere."""
    tx = drafting.tx
    if not tx.extras.redirects:
        return
    mine = _by_mbid(tx)
    for (kind, gid), redirect in tx.extras.redirects.items():
        if redirect.after == redirect.before or (kind, gid) in mine:
            continue
        name = ENTITY_TYPES[kind]
        # How the row of the redirect itself changed says nothing about the entity that it once was.
        data: dict[str, Any] = {"entity_type": name, "id": None, "mbid": gid}
        if redirect.after is None:
            event = "entity.deleted"
        else:
            into = drafting.mbid(kind, redirect.after)
            if into is None:
                continue
            event = "entity.merged"
            data |= {"into_id": redirect.after, "into_mbid": into}
        data["changes"] = []
        yield drafting.draft(redirect.first, 1, event, f"{name}/{gid}", data)


def _draft(drafting: Drafting, key: int, touch: Touch, redirect: Redirect | None) -> Ordered | None:
    kind, row_id = key & KIND_MASK, key >> KIND_BITS
    gone = touch.flags & GONE
    # A deleted entity is told by the MBID that the world knew, whatever it was called for a moment.
    previous = drafting.tx.extras.renamed.get(key)
    gid = previous if gone and previous is not None else touch.gid
    if gid is None:
        return None
    name = ENTITY_TYPES[kind]
    data: dict[str, Any] = {"entity_type": name, "id": row_id, "mbid": gid, "changes": touch.told()}
    if gone:
        event = "entity.deleted"
        if redirect is not None and redirect.after is not None:
            into = drafting.mbid(kind, redirect.after)
            if into is not None:
                event = "entity.merged"
                data |= {"into_id": redirect.after, "into_mbid": into}
    elif touch.flags & BORN:
        event = "entity.created"
    else:
        event = "entity.updated"
        if previous is not None and previous != gid:
            data["previous_mbid"] = previous
    return drafting.draft(touch.first, 0, event, f"{name}/{gid}", data)


def _merged(tx: Transaction) -> dict[int, Redirect]:
    """The redirects that took the place of entities which this transaction deleted, by the entity's key."""
    if not tx.extras.redirects:
        return {}
    return {
        key: redirect
        for (kind, gid), key in _by_mbid(tx).items()
        if (redirect := tx.extras.redirects.get((kind, gid))) is not None
    }


def _by_mbid(tx: Transaction) -> dict[tuple[int, str], int]:
    """The entities whose own rows changed, by what the world calls or called them."""
    found: dict[tuple[int, str], int] = {}
    for key, touch in tx.entities.items():
        gid = tx.extras.renamed.get(key, touch.gid) if touch.flags & GONE else touch.gid
        if gid is not None and touch.flags & SEEN:
            found[key & KIND_MASK, gid] = key
    return found
