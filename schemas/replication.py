"""What replication writes for others to read: the manifest in a packet, and the digest beside it."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Sha256 = str


class _File(BaseModel):
    # Others may have added to it since.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Manifest(_File):
    """MANIFEST.json of a packet: what is in it, for whoever wants to be sure before anything is applied."""

    version: Literal[1] = 1
    replication_sequence: int = Field(ge=0)
    schema_sequence: int
    exported_at: AwareDatetime
    first_position: int = Field(ge=0, description="The events of its changes are from here on in the master's log …")
    last_position: int = Field(ge=0, description="… to here; others are among them.")
    transactions: int = Field(ge=1)
    changes: int = Field(ge=1)
    tables: dict[str, dict[Literal["i", "u", "d"], int]] = Field(description="Changes by table and operation.")
    sha256: dict[str, Sha256] = Field(description="Of each other member, in hexadecimal.")


# 128 bits: two sums of 64, each modulo 2^64.
Sum = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0)]


class TableDigest(_File):
    """What a table holds, told by its rows in any order: their count, and the sum of their hashes.

    `columns` are those that were hashed. `buckets` are the same of the rows whose `key` (the first column of the
    primary key), shifted right by `shift` bits, is the bucket's number; all rows are in bucket 0 where `key` is null.
    """

    columns: tuple[str, ...]
    count: Count
    digest: Sum
    key: str | None
    shift: Annotated[int, Field(ge=0, le=63)]
    buckets: Mapping[int, tuple[Count, Sum]]


class Digest(_File):
    """`digest-N.json`: a master's tables as they were after packet N, as far as packets carry them.

    Tables by their quoted and qualified names; `left_out` are those that are captured but in no packet.
    """

    sequence: Annotated[int, Field(ge=0)]
    schema_sequence: int
    # Of the binary form of a row's columns, by name.
    algorithm: Literal["md5-sums-1"]
    tables: Mapping[str, TableDigest]
    left_out: tuple[str, ...]
