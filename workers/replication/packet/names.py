"""Names of packets, of what lies beside them, and of what they hold."""

import re

TIMESTAMP = "TIMESTAMP"
COPYING = "COPYING"
README = "README"
REPLICATION_SEQUENCE = "REPLICATION_SEQUENCE"
SCHEMA_SEQUENCE = "SCHEMA_SEQUENCE"
DBMIRROR_VERSION = "DBMIRROR_VERSION"
MANIFEST = "MANIFEST.json"
PENDING_DATA = "mbdump/pending_data"
PENDING_KEYS = "mbdump/pending_keys"
PENDING_TS = "mbdump/pending_ts"
DBMIRROR_PENDING = "mbdump/dbmirror_pending"
DBMIRROR_PENDINGDATA = "mbdump/dbmirror_pendingdata"

# What can be large: rows of a table.
TABLES_V2 = (PENDING_DATA, PENDING_KEYS, PENDING_TS)
TABLES_V1 = (DBMIRROR_PENDING, DBMIRROR_PENDINGDATA)

# The order that a packet has its members in; any may be missing, and others than these may lie between them.
# The manifest is ours: before the tables, so that a reader can refuse a table as soon as it has read it.
HEAD = (TIMESTAMP, COPYING, README, REPLICATION_SEQUENCE, SCHEMA_SEQUENCE, DBMIRROR_VERSION, MANIFEST)
ORDER = HEAD + TABLES_V2 + TABLES_V1

# No leading zeros: one packet has one name.
_PACKET = re.compile(r"replication-(0|[1-9][0-9]{0,9})(-v2)?\.tar\.bz2")


def packet_name(sequence: int, version: int) -> str:
    """`replication-N-v2.tar.bz2`, or `replication-N.tar.bz2` for version 1."""
    if version not in (1, 2) or sequence < 0:
        raise ValueError(f"there is no packet {sequence} of version {version}")
    return f"replication-{sequence}-v2.tar.bz2" if version == 2 else f"replication-{sequence}.tar.bz2"


def signature_name(name: str) -> str:
    """The armoured, detached signature of the packet `name`."""
    return f"{name}.asc"


def digest_name(sequence: int) -> str:
    """The digests of the master's tables as they were after packet `sequence`."""
    return f"digest-{sequence}.json"


def parse(name: str) -> tuple[int, int] | None:
    """Sequence and version of a packet's name; None for every other name, signatures too."""
    match = _PACKET.fullmatch(name)
    return (int(match[1]), 2 if match[2] else 1) if match else None
