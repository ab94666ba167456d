"""What replication writes for others to read: the manifest in a packet."""

from typing import Literal

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
