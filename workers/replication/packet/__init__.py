"""The format of replication packets: names, bzip2, tar, COPY text. Streams in, streams out; no other I/O."""
