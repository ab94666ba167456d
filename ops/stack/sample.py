"""MusicBrainz's sample data, as the `mbdata` package brings them: a few real artists with all that belongs to them."""

import uuid
import warnings
from typing import Any

import psycopg

from ops.stack.errors import EmbeddedServerError
from ops.stack.schema import set_sequences


def load(url: str) -> None:
    """Into an empty schema."""
    with warnings.catch_warnings():
        # SQLAlchemy 1.4, which mbdata needs, warns of 2.0; nobody here can act on it.
        warnings.simplefilter("ignore")
        _load(url)
    with psycopg.connect(url, autocommit=True) as connection:
        set_sequences(connection)


def _load(url: str) -> None:
    try:
        import sqlalchemy
        from mbdata.sample_data import create_sample_data
        from sqlalchemy.orm import Session
    except ImportError as error:
        raise EmbeddedServerError(
            f"The sample data need the package {error.name}. Run: pip install 'mbevents[embedded]'"
        ) from error
    # As a dump is loaded: the data bring what the triggers would derive, and must not be derived twice.
    engine = sqlalchemy.create_engine(url, connect_args={"options": "-c session_replication_role=replica"})
    try:
        with Session(engine) as session:
            sqlalchemy.event.listen(session, "before_flush", _fill_mbids)
            create_sample_data(session)
    finally:
        engine.dispose()


def _fill_mbids(session: Any, *_: object) -> None:
    """The sample is older than schema 31, which gave more tables an MBID: the same made-up one each time."""
    for row in session.new:
        if getattr(row, "gid", "") is None and row.id is not None:
            row.gid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{row.__tablename__}/{row.id}"))
