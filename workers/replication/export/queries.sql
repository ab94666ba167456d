-- name: lock
SELECT pg_try_advisory_lock(%(key)s);

-- name: unpublished
-- The packet that is on its way, if there is one.
SELECT sequence, schema_sequence, exported_at, exported_at::text, until, running, tick, first_position, last_position,
       control_seqid, control_xid, control_old::text, control_new::text, files
FROM mbevents.packet WHERE state <> 'published';

-- name: control
SELECT current_schema_sequence, current_replication_sequence FROM musicbrainz.replication_control ORDER BY id LIMIT 1;

-- name: outlook
SELECT coalesce(p.sequence, r.current_replication_sequence + 1), d.transactions, d.changes, p.sequence IS NOT NULL
FROM (SELECT current_replication_sequence FROM musicbrainz.replication_control ORDER BY id LIMIT 1) AS r
LEFT JOIN (SELECT sequence FROM mbevents.packet WHERE state <> 'published') AS p ON true,
LATERAL (
    SELECT count(DISTINCT xid) AS transactions, count(*) AS changes
    FROM dbmirror2.pending_data WHERE tablename <> ALL (%(stripped)s::text[])
) AS d;

-- name: ticked
-- All that the bridge's last tick saw is in the log.
SELECT split_part(state->>'snapshot', ':', 2)::bigint,
       string_to_array(split_part(state->>'snapshot', ':', 3), ',')::bigint[]
FROM mbevents.tick;

-- name: pending
SELECT EXISTS (
    SELECT FROM dbmirror2.pending_data
    WHERE xid < %(until)s::bigint AND xid <> ALL (%(running)s::bigint[]) AND tablename <> ALL (%(stripped)s::text[])
);

-- name: cut
-- The change of replication_control is told with numbers that are above all in the packet.
INSERT INTO mbevents.packet (
    sequence, schema_sequence, exported_at, until, running, tick, first_position, last_position, control_seqid,
    control_xid, control_old, control_new
)
SELECT r.current_replication_sequence + 1, r.current_schema_sequence, now(), %(until)s, %(running)s::bigint[],
       (SELECT coalesce(max(tick), 0) FROM mbevents.tick_snapshot),
       (SELECT coalesce(max(last_position), 0) + 1 FROM mbevents.packet),
       (SELECT position FROM mbevents.head),
       nextval('dbmirror2.pending_data_seqid_seq'), pg_current_xact_id()::text::bigint, row_to_json(r),
       row_to_json(jsonb_populate_record(r, jsonb_build_object(
           'current_replication_sequence', r.current_replication_sequence + 1, 'last_replication_date', now())))
FROM musicbrainz.replication_control r ORDER BY r.id LIMIT 1;

-- name: discard
DELETE FROM dbmirror2.pending_data WHERE xid < %(until)s::bigint AND xid <> ALL (%(running)s::bigint[]);

-- name: discard_times
DELETE FROM dbmirror2.pending_ts WHERE xid < %(until)s::bigint AND xid <> ALL (%(running)s::bigint[]);

-- name: begin_replication
UPDATE musicbrainz.replication_control SET current_replication_sequence = 0
WHERE id = (SELECT min(id) FROM musicbrainz.replication_control) AND current_replication_sequence IS NULL;

-- name: shapes
-- Every table's primary key, and its columns that JSON writes otherwise than COPY.
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname),
    coalesce((SELECT array_agg(a.attname::text ORDER BY k.place)
        FROM pg_index i, unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, place), pg_attribute a
        WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid AND a.attnum = k.attnum), '{}'),
    coalesce((SELECT json_object_agg(a.attname, CASE
            WHEN t.typname IN ('json', 'jsonb') THEN 'json'
            WHEN t.typname IN ('_json', '_jsonb') THEN 'json array' ELSE 'array' END)
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          AND (t.typcategory = 'A' OR t.typname IN ('json', 'jsonb'))), '{}')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'mbevents', 'dbmirror2');

-- name: make_tables
CREATE TEMP TABLE exported_transaction (xid bigint, last bigint, place bigint, told bigint) ON COMMIT DROP;
CREATE TEMP TABLE exported_row (place bigint, seqid bigint, told bigint, xid bigint) ON COMMIT DROP;

-- name: order_transactions
-- In the order in which they were committed: by the tick that found them, inside of one by their last number. The ids
-- are given out anew in this order, which changes nothing unless theirs was another.
INSERT INTO exported_transaction
WITH found AS (
    SELECT xid, max(seqid) AS last FROM dbmirror2.pending_data
    WHERE xid < %(until)s::bigint AND xid <> ALL (%(running)s::bigint[]) AND tablename <> ALL (%(stripped)s::text[])
    GROUP BY xid
), ordered AS (
    SELECT xid, last, row_number() OVER (ORDER BY (
        SELECT t.tick FROM mbevents.tick_snapshot t
        WHERE t.until > found.xid AND found.xid <> ALL (t.running) AND t.tick <= %(tick)s::bigint
        ORDER BY t.until, t.tick LIMIT 1
    ) NULLS LAST, last) AS place
    FROM found
), ids AS (
    SELECT xid, row_number() OVER (ORDER BY xid) AS place FROM found
)
SELECT ordered.xid, ordered.last, place, ids.xid FROM ordered JOIN ids USING (place);

-- name: order_rows
INSERT INTO exported_row
SELECT row_number() OVER (ORDER BY t.place, d.seqid), d.seqid, d.seqid, t.told
FROM dbmirror2.pending_data d JOIN exported_transaction t USING (xid)
WHERE d.tablename <> ALL (%(stripped)s::text[]);

-- name: contradicted
-- Whether a transaction's last number is below that of one that was committed before it.
SELECT EXISTS (
    SELECT FROM (SELECT last < lag(last) OVER (ORDER BY place) AS below FROM exported_transaction) AS told WHERE below
);

-- name: renumber_rows
UPDATE exported_row SET told = numbers.seqid
FROM (SELECT seqid, row_number() OVER (ORDER BY seqid) AS place FROM exported_row) AS numbers
WHERE numbers.place = exported_row.place;

-- name: counted
SELECT count(*) FROM exported_transaction;

-- name: rows
COPY (
    SELECT r.told, d.tablename, d.op, r.xid, d.olddata, d.newdata, NULL, NULL
    FROM exported_row r JOIN dbmirror2.pending_data d ON d.seqid = r.seqid
    ORDER BY r.place
) TO STDOUT;

-- name: times
COPY (
    SELECT t.told, s.ts FROM exported_transaction t JOIN dbmirror2.pending_ts s ON s.xid = t.xid ORDER BY t.place
) TO STDOUT;

-- name: built
UPDATE mbevents.packet
SET state = 'built', transactions = %(transactions)s, changes = %(changes)s, files = %(files)s::jsonb
WHERE sequence = %(sequence)s AND state <> 'published';

-- name: advance
UPDATE musicbrainz.replication_control r
SET current_replication_sequence = p.sequence, last_replication_date = p.exported_at
FROM mbevents.packet p
WHERE p.sequence = %(sequence)s AND r.id = (SELECT min(id) FROM musicbrainz.replication_control)
  AND r.current_replication_sequence = p.sequence - 1;

-- name: forget_own
-- Our own update was captured as well; the packet has it already.
WITH times AS (DELETE FROM dbmirror2.pending_ts WHERE xid = pg_current_xact_id()::text::bigint)
DELETE FROM dbmirror2.pending_data WHERE xid = pg_current_xact_id()::text::bigint;

-- name: published
UPDATE mbevents.packet SET state = 'published', published_at = now() WHERE sequence = %(sequence)s AND state = 'built'
RETURNING sequence, schema_sequence, exported_at, transactions, changes, files;

-- name: forget_ticks
DELETE FROM mbevents.tick_snapshot WHERE tick <= %(tick)s;

-- name: tell
SELECT mbevents.tell('packet', 'INSERT', NULL, %(data)s::jsonb);
