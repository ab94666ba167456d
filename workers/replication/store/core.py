"""What a packet store is, which files it holds, and which of them have had their time."""

import re
from collections.abc import Generator, Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from events.errors import UsageError
from workers.replication.packet import names

# Who does not read to the end closes it, or the file stays open until Python finds out.
Pieces = Generator[bytes, None, None]

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_DIGEST = re.compile(r"digest-(0|[1-9][0-9]{0,9})\.json")
# Longer than any name of ours, and short enough to be looked at.
_LONGEST = 64


class Stored(NamedTuple):
    """A file of the store; `etag` has no quotes, and is another one after any change."""

    name: str
    size: int
    modified: datetime
    etag: str


class Named(NamedTuple):
    """What a name says. `version` is the packet's, None for a digest."""

    sequence: int
    version: int | None
    signature: bool = False


class Place(NamedTuple):
    """Where a store is: a folder, or a bucket and what its keys begin with."""

    path: Path
    bucket: str | None = None
    prefix: str = ""


class PacketStore(Protocol):
    """Files by name, each seen whole or not at all; other names than those of `named` raise UsageError."""

    def put(self, name: str, path: Path) -> None:
        """Keep a copy of a file, in place of an older one; durable, and compared with it, when this returns."""
        ...

    def stat(self, name: str) -> Stored | None: ...

    def list(self) -> list[Stored]:
        """All that is there, by name."""
        ...

    def read(self, name: str, start: int = 0, end: int | None = None) -> Pieces:
        """The bytes from `start` to before `end`, in pieces. Raises NotFoundError at once, not when first asked."""
        ...

    def path(self, name: str) -> Path | None:
        """The file itself, where it is a local one that is there."""
        ...

    def url(self, name: str, *, seconds: int) -> str | None:
        """An address from which anybody may read it for a while, where the store can give one."""
        ...

    def delete(self, name: str) -> None:
        """That it was gone already is no error."""
        ...


def named(name: str) -> Named | None:
    """What a file is, by its name; None if it is none of ours."""
    if len(name) > _LONGEST:
        return None
    if (digest := _DIGEST.fullmatch(name)) is not None:
        return Named(int(digest[1]), None)
    packet = name.removesuffix(".asc")
    found = names.parse(packet)
    return None if found is None else Named(*found, signature=packet != name)


def checked(name: str) -> Named:
    """What a file is. Raises UsageError: no other name reaches a disk or a server, so none leads out of the store."""
    found = named(name)
    if found is None:
        raise UsageError(f"{name!r:.80} is not the name of a packet, a signature or a digest.")
    return found


def content_type(name: str) -> str:
    """As MusicBrainz's feed says it."""
    what = checked(name)
    if what.version is None:
        return "application/json"
    return "text/plain" if what.signature else "application/x-tar-bz2"


def parsed(url: str) -> Place:
    """Where a store is, by its URL. Raises ValueError, which does not quote it."""
    parts = urlsplit(url)
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("it takes neither user, query nor fragment: credentials for S3 come from the AWS settings")
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        if parts.netloc or not folder.is_absolute() or folder == Path("/") or "\0" in str(folder):
            raise ValueError("it must be the absolute path of a folder after three slashes: file:///srv/packets")
        return Place(folder)
    if parts.scheme == "s3":
        if not parts.netloc:
            raise ValueError("it must name a bucket: s3://bucket or s3://bucket/prefix")
        if not _BUCKET.fullmatch(parts.netloc):
            raise ValueError(
                "what it names cannot be a bucket: their names have 3 to 63 characters, which are small letters, "
                "digits, dots and hyphens"
            )
        return Place(Path(), parts.netloc, unquote(parts.path).strip("/"))
    raise ValueError("it must begin with file:/// or s3://")


def expired(stored: Iterable[Stored], *, now: datetime, days: int | None, count: int | None) -> list[str]:
    """What may go, in the order in which to delete it.

    A packet goes when it is older than `days` and not among the newest `count`, as far as these are given; so the one
    that is kept longer decides. It goes with all that has its number, and after all that are older, so that what is
    left has no gap. The newest packet never goes.
    """
    groups: dict[int, list[tuple[Named, Stored]]] = {}
    for each in stored:
        if (what := named(each.name)) is not None:
            groups.setdefault(what.sequence, []).append((what, each))
    packets = sorted(number for number, group in groups.items() if any(is_packet(what) for what, _ in group))
    if not packets or (days is None and count is None):
        return []
    first_kept = packets[-(count or 1) :][0]
    gone: list[str] = []
    for number in sorted(groups):
        newest = max(each.modified for _, each in groups[number])
        if number >= first_kept or (days is not None and now - newest < timedelta(days=days)):
            break
        # Packets first, then their signatures: who finds a packet finds its signature, now as when it was published.
        group = sorted(groups[number], key=lambda pair: (not is_packet(pair[0]), pair[1].name))
        gone += [each.name for _, each in group]
    return gone


def newest(stored: Iterable[Stored]) -> Stored | None:
    """The packet with the highest number, of whichever version came last."""
    ours = [(what.sequence, each.modified, each) for each in stored if (what := named(each.name)) and is_packet(what)]
    return max(ours)[-1] if ours else None


def missing(stored: Iterable[Stored]) -> int | None:
    """The first packet that readers of either version cannot get past; those of only one version are no gap."""
    numbers: dict[int, set[int]] = {1: set(), 2: set()}
    for each in stored:
        what = named(each.name)
        if what is not None and what.version is not None and not what.signature:
            numbers[what.version].add(what.sequence)
    gaps = []
    for there in numbers.values():
        for before, after in pairwise(sorted(there)):
            if after != before + 1:
                gaps.append(before + 1)
                break
    return min(gaps, default=None)


def is_packet(what: Named) -> bool:
    """Neither a signature nor a digest."""
    return what.version is not None and not what.signature
