"""Replication packets. Subject: `packet/<n>`."""

from pydantic import AwareDatetime, Field

from schemas.values import Payload


class _Packet(Payload):
    number: int = Field(ge=0, description="The N of replication-N-v2.tar.bz2.")
    schema_sequence: int
    transactions: int = Field(ge=0)
    changes: int = Field(ge=0, description="Row changes.")


class PacketPublished(_Packet):
    """A packet is in the packet store, with everything that belongs to it."""

    size_bytes: int = Field(ge=0)
    exported_at: AwareDatetime


class PacketApplied(_Packet):
    """A mirror has applied a packet."""

    applied_at: AwareDatetime
