-- name: tables
-- Every table of these schemas with its columns and primary key, which is empty where it has none.
SELECT format('%%I.%%I', n.nspname, c.relname),
    array_agg(a.attname::text ORDER BY a.attnum),
    array_agg(CASE
        WHEN t.typcategory = 'A' THEN (
            SELECT e.typname || '[]' FROM pg_type e WHERE e.oid = t.typelem
        ) ELSE coalesce((SELECT b.typname FROM pg_type b WHERE b.oid = nullif(t.typbasetype, 0)), t.typname) END::text
        ORDER BY a.attnum),
    coalesce((
        SELECT array_agg(k.attname::text ORDER BY p.place)
        FROM pg_index i
        CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY p (number, place)
        JOIN pg_attribute k ON k.attrelid = i.indrelid AND k.attnum = p.number
        WHERE i.indrelid = c.oid AND i.indisprimary
    ), '{}'),
    c.reltuples
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY (%(schemas)s)
GROUP BY n.nspname, c.relname, c.oid;

-- name: prepare
-- As MusicBrainz applies packets: the path is for the functions of a mirror's triggers. Rows are found one by one by
-- their key, unless many of a table's are staged: a scan of a large table for a few rows, because nobody has counted
-- the staged ones, would be a disaster.
SELECT set_config('search_path', 'musicbrainz, public', true),
    set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true),
    set_config('client_encoding', 'UTF8', true),
    set_config('datestyle', 'ISO, MDY', true),
    set_config('timezone', 'UTC', true),
    set_config('statement_timeout', '0', true);

-- name: many
-- For the next statements: whether a large part of the table is staged.
SELECT set_config('enable_hashjoin', %(many)s, true);

-- name: has_search
SELECT to_regclass('sir.control') IS NOT NULL;

-- name: search_off
-- With the former value, which is put back.
UPDATE sir.control c SET indexing_enabled = false
FROM (SELECT indexing_enabled FROM sir.control) before
WHERE c.indexing_enabled RETURNING before.indexing_enabled;

-- name: search_on
UPDATE sir.control SET indexing_enabled = true;

-- name: control
SELECT current_replication_sequence, current_schema_sequence FROM musicbrainz.replication_control;

-- name: make_pile
CREATE TEMP TABLE mbevents_pile (
    seqid bigint NOT NULL, xid bigint NOT NULL, tablename text NOT NULL, op text NOT NULL, old bytea, new bytea
) ON COMMIT DROP;

-- name: fill_pile
COPY pg_temp.mbevents_pile FROM STDIN (FORMAT binary);

-- name: pile_by_number
SELECT seqid, xid, tablename, op, old, new FROM pg_temp.mbevents_pile ORDER BY seqid;

-- name: pile_by_commit
-- Transactions as they committed, which for whatever two of them share is the order of their last numbers.
SELECT p.seqid, p.xid, p.tablename, p.op, p.old, p.new
FROM pg_temp.mbevents_pile p
JOIN (SELECT xid, max(seqid) AS last FROM pg_temp.mbevents_pile GROUP BY xid) t USING (xid)
ORDER BY t.last, p.seqid;
