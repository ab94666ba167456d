"""Where packets are kept: a folder, or a bucket of an S3 server."""

from workers.replication.store.core import Named, PacketStore, Stored, named, parsed

__all__ = ["Named", "PacketStore", "Stored", "named", "open_store", "parsed"]


def open_store(url: str) -> PacketStore:
    """The store of `file:///folder` or `s3://bucket/prefix`. Raises ValueError; nothing is asked of a server yet."""
    where = parsed(url)
    if where.bucket is None:
        from workers.replication.store.files import FileStore

        return FileStore(where.path)
    # boto3 takes a third of a second to import, and most use a folder.
    from workers.replication.store.s3 import S3Store

    return S3Store(where.bucket, where.prefix)
