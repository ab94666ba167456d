"""Replication packets. Subject: `packet/<n>`."""

from pydantic import AwareDatetime, Field

from schemas.values import Payload


class _Packet(Payload):
    number: int = Field(ge=0, description="The N of replication-N-v2.tar.bz2.")
    schema_sequence: int
    transactions: int = Field(ge=0)
    changes: int = Field(ge=0, description="Row changes.")


class PacketFile(Payload):
    """One version of a packet, as it is in the packet store."""

    name: str = Field(examples=["replication-158000-v2.tar.bz2"])
    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class PacketPublished(_Packet):
    """A packet is in the packet store, with everything that belongs to it."""

    size_bytes: int = Field(ge=0, description="Of all its files together.")
    exported_at: AwareDatetime
    files: tuple[PacketFile, ...]


class PacketApplied(_Packet):
    """A mirror has applied a packet."""

    applied_at: AwareDatetime
