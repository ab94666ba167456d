import psycopg

from ops.stack.schema import SCHEMAS


def test_the_real_schema_is_built_with_its_sample_data(database: str) -> None:
    with psycopg.connect(database) as connection:
        tables = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = ANY (%s)", (list(SCHEMAS),)
        ).fetchone()
        artist = connection.execute("SELECT name FROM artist WHERE id = 108703 OR name = 'Trentemøller'").fetchone()
    assert tables is not None
    assert tables[0] > 390
    assert artist == ("Trentemøller",)
