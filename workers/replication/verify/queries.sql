-- name: settings
-- The binary form of a row knows no setting but the encoding. As text are types that are not PostgreSQL's own (their
-- numbers in the binary form would differ), and what is told to people.
SELECT set_config(name, value, true)
FROM (VALUES
    ('client_encoding', 'UTF8'), ('search_path', ''), ('DateStyle', 'ISO, YMD'), ('TimeZone', 'UTC'),
    ('IntervalStyle', 'postgres'), ('extra_float_digits', '1'), ('bytea_output', 'hex'), ('lc_monetary', 'C'),
    ('xmlbinary', 'base64'), ('jit', 'off'), ('statement_timeout', '0'), ('idle_in_transaction_session_timeout', '0')
) AS given (name, value);

-- name: sequences
SELECT current_replication_sequence, current_schema_sequence FROM musicbrainz.replication_control ORDER BY id LIMIT 1;

-- name: identity
-- Of a copy of a whole server all but the time is the same.
SELECT s.system_identifier, d.oid::bigint, pg_postmaster_start_time()
FROM pg_control_system() AS s, pg_database AS d WHERE d.datname = current_database();

-- name: captures
SELECT EXISTS (
    SELECT FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
    WHERE NOT t.tgisinternal AND p.pronamespace = to_regnamespace('dbmirror2')
);

-- name: has_pending
SELECT to_regclass('dbmirror2.pending_data') IS NOT NULL;

-- name: pending
-- Tables with changes that are in no packet yet.
SELECT DISTINCT tablename FROM dbmirror2.pending_data;

-- name: columns
-- By name: their order, and columns that were dropped, differ between databases. 16384 is where PostgreSQL's own end.
SELECT c.full, coalesce(pg_relation_size(c.oid) / current_setting('block_size')::integer, 0),
       (SELECT array_agg(a.attname::text ORDER BY a.attname COLLATE "C") FROM pg_attribute a WHERE a.attrelid = c.oid
        AND a.attnum > 0 AND NOT a.attisdropped),
       (SELECT array_agg(format_type(a.atttypid, NULL) ORDER BY a.attname COLLATE "C") FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
       (SELECT array_agg(a.atttypid >= 16384 ORDER BY a.attname COLLATE "C") FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
FROM (SELECT name AS full, to_regclass(name)::oid AS oid FROM unnest(%(tables)s::text[]) AS given (name)) AS c
WHERE c.oid IS NOT NULL;

-- name: bounds
SELECT min({key}), max({key}) FROM {table} AS t;

-- name: totals
-- md5 of the row in two halves, summed. The OFFSET keeps the hash from being computed once for each of them.
SELECT key >> {shift}, count(*), sum(hash::bit(64)::bigint), sum((hash << 64)::bit(64)::bigint)
FROM (
    SELECT {key} AS key, ('x' || md5(record_send(ROW({columns}))))::bit(128) AS hash FROM {source} OFFSET 0
) AS row
GROUP BY 1;

-- name: rows
-- Sources (`of_…`): the table's rows; those that pending changes took away; those that they brought.
SELECT {columns} FROM {source};

-- name: of_table
{table} AS t WHERE {condition}

-- name: of_old
dbmirror2.pending_data AS p, json_populate_record(NULL::{table}, p.olddata) AS t
WHERE p.tablename = {name} AND p.olddata IS NOT NULL AND {condition}

-- name: of_new
dbmirror2.pending_data AS p, json_populate_record(NULL::{table}, p.newdata) AS t
WHERE p.tablename = {name} AND p.newdata IS NOT NULL AND {condition}

-- name: lock
LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE;

-- name: insert
INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE VALUES ({values});

-- name: update
UPDATE {table} SET {assignments} WHERE {condition};

-- name: delete
DELETE FROM {table} WHERE {condition};
