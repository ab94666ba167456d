-- name: installed
-- What there is of ours: the log, the tables of capture (none on a mirror), the bridge's state.
SELECT to_regclass('mbevents.event') IS NOT NULL, to_regclass('dbmirror2.pending_ts') IS NOT NULL,
       to_regclass('mbevents.outbox') IS NOT NULL, to_regclass('mbevents.tick') IS NOT NULL;

-- name: unpublished
-- The oldest event that did not reach the channels and queues.
SELECT extract(epoch FROM now() - recorded_at)::float8
FROM mbevents.event WHERE position > (SELECT published FROM mbevents.head) ORDER BY position LIMIT 1;

-- name: unticked_pending
-- The oldest committed transaction that no tick has seen.
SELECT extract(epoch FROM now() - min(ts))::float8
FROM dbmirror2.pending_ts, (SELECT (state ->> 'snapshot')::pg_snapshot AS seen FROM mbevents.tick) tick
WHERE xid >= pg_snapshot_xmax(seen)::text::bigint
   OR xid IN (SELECT ip::text::bigint FROM pg_snapshot_xip(seen) ip);

-- name: unticked_outbox
SELECT extract(epoch FROM now() - min(ts))::float8
FROM mbevents.outbox, (SELECT (state ->> 'snapshot')::pg_snapshot AS seen FROM mbevents.tick) tick
WHERE NOT pg_visible_in_snapshot(xid::text::xid8, seen);

-- name: lock_holder
-- Who holds an advisory lock of a bigint key in this database.
SELECT a.pid, a.application_name, a.client_addr::text, a.backend_start
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid::bigint = %(key)s::bigint >> 32 AND l.objid::bigint = %(key)s::bigint & 4294967295;

-- name: server
SELECT current_setting('server_version'), current_setting('server_version_num')::int, current_database(),
       extract(epoch FROM clock_timestamp())::float8, pg_is_in_recovery();

-- name: dead_letters
SELECT queue, count(*) FROM mbevents.dead_letter GROUP BY queue ORDER BY queue;
