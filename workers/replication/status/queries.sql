-- name: control
SELECT current_schema_sequence, current_replication_sequence, last_replication_date
FROM musicbrainz.replication_control ORDER BY id LIMIT 1;

-- name: there
-- What there is: a database that was set up by an older release, or never, lacks some of it.
SELECT to_regclass('mbevents.packet') IS NOT NULL, to_regclass('mbevents.sync_run') IS NOT NULL,
       to_regclass('mbevents.export_failure') IS NOT NULL,
       to_regclass('dbmirror2.pending_data') IS NOT NULL, to_regclass('musicbrainz.replication_control') IS NOT NULL;

-- name: state
SELECT paused, up_to_date_at FROM mbevents.replication_state;

-- name: runs
-- One without an end runs only as long as somebody holds the lock, and if it is the newest.
SELECT started_at, ended_at,
       coalesce(outcome, CASE WHEN %(running)s::boolean AND id = (SELECT max(id) FROM mbevents.sync_run)
                              THEN 'running' ELSE 'killed' END),
       to_sequence, packets, changes, diverged, error
FROM mbevents.sync_run ORDER BY id DESC LIMIT %(limit)s;

-- name: outcomes
-- Of all times: with those that are kept no longer. What is running has no outcome yet.
SELECT outcome, sum(runs)::bigint, sum(changes)::bigint FROM (
    SELECT outcome, runs, changes FROM mbevents.sync_trimmed
    UNION ALL
    SELECT coalesce(outcome, CASE WHEN %(running)s::boolean AND id = (SELECT max(id) FROM mbevents.sync_run)
                                  THEN 'running' ELSE 'killed' END), 1, changes
    FROM mbevents.sync_run
) AS told GROUP BY outcome;

-- name: published
SELECT sequence, published_at, changes FROM mbevents.packet WHERE state = 'published' ORDER BY sequence DESC LIMIT 1;

-- name: on_its_way
SELECT sequence FROM mbevents.packet WHERE state <> 'published';

-- name: pending
-- Of what an export would take; who asks must not wait for millions to be counted.
SELECT count(*) FROM (
    SELECT FROM dbmirror2.pending_data WHERE tablename <> ALL (%(stripped)s::text[]) LIMIT %(limit)s
) AS counted;

-- name: oldest_pending
-- When the transaction of the first change began: found by its index, however many there are.
SELECT t.ts FROM (
    SELECT xid FROM dbmirror2.pending_data WHERE tablename <> ALL (%(stripped)s::text[]) ORDER BY seqid LIMIT 1
) AS first JOIN dbmirror2.pending_ts t USING (xid);

-- name: export_failed
INSERT INTO mbevents.export_failure (error) VALUES (%(error)s)
ON CONFLICT (one) DO UPDATE SET error = excluded.error, failed_at = now();

-- name: export_succeeded
DELETE FROM mbevents.export_failure;

-- name: export_failure
SELECT error, failed_at FROM mbevents.export_failure;

-- name: held
-- Whether somebody holds an advisory lock of this key.
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid::bigint = %(key)s::bigint >> 32 AND objid::bigint = %(key)s::bigint & 4294967295
);
