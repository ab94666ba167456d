"""A packet store in a bucket of an S3 server: Amazon's, or another with the same interface.

Where it is, and who we are, is said as for every program that uses AWS's library: AWS_ENDPOINT_URL_S3, AWS_REGION,
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_CA_BUNDLE, AWS_PROFILE and ~/.aws. With an endpoint, addresses have the
bucket in their path.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from events.errors import MbeventsError, NotFoundError, UnreachableError
from workers.replication.store.core import Pieces, Stored, checked, content_type, named

PIECE = 256 * 1024
# Larger files go up in parts of this size, four at a time: what of it is in memory stays small.
PART = 8 * 1024 * 1024
_TRANSFER = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=4)
_CONFIG = Config(
    # The signature that every region and server takes.
    signature_version="s3v4",
    connect_timeout=5,
    read_timeout=30,
    retries={"mode": "standard", "total_max_attempts": 4},
)
_GONE = {"404", "NoSuchKey", "NotFound"}
_REFUSED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}


class S3Store:
    """Connects when it is first used."""

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._lock = Lock()
        self._made: Any = None

    def put(self, name: str, path: Path) -> None:
        with path.open("rb") as file:
            wanted = hashlib.file_digest(file, "sha256").digest()
            file.seek(0)
            with self._told(name):
                self._client.upload_fileobj(
                    file,
                    self._bucket,
                    self._key(name),
                    ExtraArgs={"ContentType": content_type(name)},
                    Config=_TRANSFER,
                )
        # Read back: every server can do that, and what it says of checksums differs from one to the next.
        found = hashlib.sha256()
        for piece in self.read(name):
            found.update(piece)
        if found.digest() != wanted:
            self.delete(name)
            raise MbeventsError(f"{self._where(name)} came back changed after it was put there, and was deleted.")

    def stat(self, name: str) -> Stored | None:
        try:
            with self._told(name):
                found = self._client.head_object(Bucket=self._bucket, Key=self._key(name))
        except NotFoundError:
            return None
        return Stored(name, found["ContentLength"], found["LastModified"], found["ETag"].strip('"'))

    def list(self) -> list[Stored]:
        stored = []
        with self._told():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            for page in pages:
                for each in page.get("Contents", ()):
                    name = each["Key"].removeprefix(self._prefix)
                    if named(name) is not None:
                        stored.append(Stored(name, each["Size"], each["LastModified"], each["ETag"].strip('"')))
        return sorted(stored)

    def read(self, name: str, start: int = 0, end: int | None = None) -> Pieces:
        pieces = self._pieces(name, start, end)
        next(pieces)
        return pieces

    def path(self, name: str) -> Path | None:
        checked(name)
        return None

    def url(self, name: str, *, seconds: int) -> str | None:
        with self._told(name):
            parameters = {"Bucket": self._bucket, "Key": self._key(name)}
            return str(self._client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds))

    def delete(self, name: str) -> None:
        with self._told(name):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(name))

    @property
    def _client(self) -> Any:
        # Making one is not safe in threads; using it is.
        with self._lock:
            if self._made is None:
                self._made = boto3.session.Session().client("s3", config=_CONFIG)
            return self._made

    def _key(self, name: str) -> str:
        checked(name)
        return self._prefix + name

    def _where(self, name: str = "") -> str:
        return f"s3://{self._bucket}/{self._prefix}{name}"

    def _pieces(self, name: str, start: int, end: int | None) -> Pieces:
        ranged = {}
        if start or end is not None:
            if end is not None and end <= start:
                # No range says "nothing", but the file must be there.
                if self.stat(name) is None:
                    raise self._missing(name)
                yield b""
                return
            ranged["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        with self._told(name):
            try:
                body = self._client.get_object(Bucket=self._bucket, Key=self._key(name), **ranged)["Body"]
            except ClientError as error:
                if _code(error) != "InvalidRange":
                    raise
                # Past the end.
                yield b""
                return
            try:
                # The first is nothing, for `read`: it says that the file is there.
                yield b""
                yield from body.iter_chunks(PIECE)
            finally:
                body.close()

    def _missing(self, name: str) -> NotFoundError:
        return NotFoundError(f"There is no {self._where(name)}.")

    @contextmanager
    def _told(self, name: str = "") -> Iterator[None]:
        """What the library raises, as errors that say what to do."""
        try:
            yield
        except ClientError as error:
            raise self._answered(error, name) from error
        except (NoCredentialsError, PartialCredentialsError, NoRegionError) as error:
            raise MbeventsError(
                f"{self._where()} needs credentials and a region: set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
                "AWS_REGION, or AWS_PROFILE."
            ) from error
        except (HTTPClientError, BotoConnectionError) as error:
            raise UnreachableError(
                f"The S3 server of {self._where()} does not answer: {_why(error)}. Check AWS_ENDPOINT_URL_S3 "
                "and AWS_REGION, and that it runs."
            ) from error
        except BotoCoreError as error:
            raise MbeventsError(f"{self._where(name)} failed: {error}") from error

    def _answered(self, error: ClientError, name: str) -> MbeventsError:
        code = _code(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NoSuchBucket":
            return MbeventsError(f"There is no bucket {self._bucket} on the S3 server: make it, or set PACKET_STORE.")
        if code in _GONE:
            return self._missing(name)
        if code in _REFUSED:
            return MbeventsError(
                f"The S3 server refuses {self._where(name)} ({code}). Check AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, and that they may list, read, write and delete there."
            )
        if status >= 500 or code in {"SlowDown", "RequestTimeout"}:
            return UnreachableError(f"The S3 server of {self._where()} cannot answer now ({code}). Try again later.")
        return MbeventsError(f"The S3 server refused {self._where(name)}: {code}.")


def _why(error: Exception) -> str:
    if isinstance(error, ConnectTimeoutError | ReadTimeoutError):
        return "it says nothing in time"
    if isinstance(error, SSLError):
        return "TLS with it fails, or its certificate is not trusted"
    if isinstance(error, EndpointConnectionError):
        return "no connection to it can be made"
    return "the connection broke off"


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
