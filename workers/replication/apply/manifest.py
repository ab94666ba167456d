"""Whether a packet's members are those that its manifest tells of."""

import hashlib
from collections.abc import Iterator

from pydantic import ValidationError

from schemas.replication import Manifest
from workers.replication.packet import names
from workers.replication.packet.archive import Member
from workers.replication.packet.errors import PacketError

_TABLES = frozenset(names.TABLES_V2 + names.TABLES_V1)


class ManifestCheck:
    """Sees every member of one reading pass by; packets of MusicBrainz have no manifest, and pass."""

    def __init__(self, packet: str) -> None:
        self._packet = packet
        self._seen: dict[str, str] = {}
        self._manifest: Manifest | None = None

    def seen(self, member: Member) -> Iterator[Member]:
        """The same member, to be used before the next is asked for. Raises PacketError."""
        if member.name == names.MANIFEST:
            data = member.read()
            self._read(data)
            yield member._replace(blocks=iter((data,)))
            return
        digest = hashlib.sha256()

        def watched() -> Iterator[bytes]:
            for block in member.blocks:
                digest.update(block)
                yield block

        blocks = watched()
        yield member._replace(blocks=blocks)
        for _ in blocks:
            # What nobody wanted to know is compared too.
            pass
        self._seen[member.name] = digest.hexdigest()
        self._compare(member.name)

    def finish(self, number: int, schema_sequence: int) -> None:
        """All members went by. Raises PacketError."""
        told = self._manifest
        if told is None:
            return
        missing = sorted(told.sha256.keys() - self._seen.keys())
        if missing:
            raise self._error(f"tells of {missing[0]!r:.80}, which is not there")
        unknown = sorted((self._seen.keys() & _TABLES) - told.sha256.keys())
        if unknown:
            raise self._error(f"does not tell of {unknown[0]}")
        if (told.replication_sequence, told.schema_sequence) != (number, schema_sequence):
            raise self._error(
                f"is of packet {told.replication_sequence} of schema {told.schema_sequence}, "
                f"not of {number} of schema {schema_sequence}"
            )

    def _read(self, data: bytes) -> None:
        try:
            self._manifest = Manifest.model_validate_json(data)
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"])) or "it"
            raise self._error(f"cannot be read: {where} is not as it should be") from None
        for name in self._seen:
            self._compare(name)

    def _compare(self, name: str) -> None:
        told = None if self._manifest is None else self._manifest.sha256.get(name)
        if told is not None and told.lower() != self._seen[name]:
            raise PacketError(
                f"is not what {names.MANIFEST} tells of (sha256 {self._seen[name][:16]}…, told {told[:16]!r}…)",
                packet=self._packet,
                member=name,
            )

    def _error(self, reason: str) -> PacketError:
        return PacketError(reason, packet=self._packet, member=names.MANIFEST)
