"""What a packet says of itself to people."""

COPYING = """\
The data in this packet come from the MusicBrainz database (https://musicbrainz.org), under two licences.

The core data are in the public domain: CC0 1.0, https://creativecommons.org/publicdomain/zero/1.0/.
They are the entities, their names and aliases, credits, tracks, relationships, and the rest of what describes music.

The supplementary data may be used under CC BY-NC-SA 3.0, https://creativecommons.org/licenses/by-nc-sa/3.0/:
name MusicBrainz, do not sell, and share what you make of them in the same way.
They are annotations, tags, ratings and statistics.

https://musicbrainz.org/doc/About/Data_License says for each kind of data which of the two it is.
"""

README = """\
This is a replication packet: the changes of a MusicBrainz database since the packet before it, for its mirrors.

TIMESTAMP              when it was made
REPLICATION_SEQUENCE   its number; a mirror applies each number once, in order
SCHEMA_SEQUENCE        the version of the database's schema that it fits
MANIFEST.json          sums of all files, and what they hold
mbdump/                the changes, in the text format of PostgreSQL's COPY

Packets of version 2 (with DBMIRROR_VERSION) hold rows as JSON, as dbmirror2 captured them: changes in pending_data,
primary keys of their tables in pending_keys, times of their transactions in pending_ts.
Packets of version 1 hold the same changes as dbmirror wrote them: dbmirror_pending, and its values in
dbmirror_pendingdata.

All changes with the same transaction id belong together. Transactions are numbered in the order of their commits.
The last change is that of replication_control, by which a mirror knows the number of the packet that it has applied.
"""
