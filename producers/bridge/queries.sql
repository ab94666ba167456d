-- name: sources
SELECT to_regclass('dbmirror2.pending_data') IS NOT NULL, to_regclass('mbevents.outbox') IS NOT NULL,
       to_regclass('mbevents.tick') IS NOT NULL,
       -- A capture that is not ours: its function calls nothing of ours.
       EXISTS (
           SELECT FROM pg_proc
           WHERE oid = to_regproc('dbmirror2.recordchange') AND position('mbevents.captured' IN prosrc) = 0
       ),
       to_regclass('mbevents.packet') IS NOT NULL;

-- name: exports
SELECT EXISTS (SELECT FROM mbevents.packet);

-- name: state
SELECT state FROM mbevents.tick;

-- name: save
UPDATE mbevents.tick SET state = %(state)s::jsonb, ticked_at = now();

-- name: keep_snapshot
INSERT INTO mbevents.tick_snapshot (until, running) VALUES (%(until)s, %(running)s);

-- name: snapshot
SELECT pg_current_snapshot()::text;

-- name: take_xid
SELECT pg_current_xact_id()::text::bigint;

-- name: look
-- The snapshot, the floors, and an id taken after the floors were read: the sequences are read as they are now, whatever
-- the snapshot, before the list is evaluated. Before a sequence is first used it says 1. The id is taken only for a batch
-- that has rows: an empty look must not use up transaction ids.
SELECT pg_current_snapshot()::text,
    CASE WHEN p.is_called THEN p.last_value ELSE 0 END,
    CASE WHEN o.is_called THEN o.last_value ELSE 0 END,
    CASE WHEN
        EXISTS (
            SELECT FROM dbmirror2.pending_data
            WHERE seqid > %(low_pending)s::bigint AND (xid >= %(xmax)s::bigint OR xid = ANY (%(ended)s::bigint[]))
        ) OR EXISTS (
            SELECT FROM mbevents.outbox
            WHERE seqid > %(low_outbox)s::bigint AND (xid >= %(xmax)s::bigint OR xid = ANY (%(ended)s::bigint[]))
        )
        THEN pg_current_xact_id()::text::bigint
    END
FROM dbmirror2.pending_data_seqid_seq p, mbevents.outbox_seqid_seq o;

-- name: batch
-- Visible are only rows of the batch or older ones, which the numbers and the transaction ids leave out.
(
    SELECT 0, seqid, xid, 'outbox.' || kind, op::text, old::text, new::text, ts
    FROM mbevents.outbox
    WHERE seqid > %(low_outbox)s::bigint AND (xid >= %(xmax)s::bigint OR xid = ANY (%(ended)s::bigint[]))
    ORDER BY seqid LIMIT %(limit)s
) UNION ALL (
    SELECT 1, seqid, xid, tablename, op::text, olddata::text, newdata::text,
           (SELECT ts FROM dbmirror2.pending_ts t WHERE t.xid = d.xid)
    FROM dbmirror2.pending_data d
    WHERE seqid > %(low_pending)s::bigint AND (xid >= %(xmax)s::bigint OR xid = ANY (%(ended)s::bigint[]))
    ORDER BY seqid LIMIT %(limit)s
);

-- name: unticked
SELECT EXISTS (
    SELECT FROM dbmirror2.pending_data
    WHERE seqid > %(low)s::bigint AND (xid >= %(xmax)s::bigint OR xid = ANY (%(ended)s::bigint[]))
      AND xid < %(until)s::bigint AND xid <> ALL (%(running)s::bigint[])
);

-- name: here
SELECT pg_current_snapshot()::text,
    CASE WHEN p.is_called THEN p.last_value ELSE 0 END,
    CASE WHEN o.is_called THEN o.last_value ELSE 0 END,
    pg_current_xact_id()::text::bigint
FROM dbmirror2.pending_data_seqid_seq p, mbevents.outbox_seqid_seq o;

-- name: pending_future
-- Rows that a restore brought from a cluster with higher transaction ids.
SELECT xid, count(*), min(seqid), max(seqid) FROM dbmirror2.pending_data WHERE xid >= %(xmax)s::bigint GROUP BY xid;

-- name: outbox_future
SELECT xid, count(*), min(seqid), max(seqid) FROM mbevents.outbox WHERE xid >= %(xmax)s::bigint GROUP BY xid;

-- name: pending_extents
SELECT xid, count(*), min(seqid), max(seqid)
FROM dbmirror2.pending_data
WHERE seqid > %(low)s::bigint AND (xid >= %(xmax)s::bigint OR xid = ANY (%(ended)s::bigint[]))
  AND xid < %(until)s::bigint AND xid <> ALL (%(running)s::bigint[])
GROUP BY xid HAVING max(seqid) > %(done)s::bigint;

-- name: outbox_extents
SELECT xid, count(*), min(seqid), max(seqid)
FROM mbevents.outbox
WHERE seqid > %(low)s::bigint AND (xid >= %(xmax)s::bigint OR xid = ANY (%(ended)s::bigint[]))
  AND xid < %(until)s::bigint AND xid <> ALL (%(running)s::bigint[])
GROUP BY xid HAVING max(seqid) > %(done)s::bigint;

-- name: pending_part
SELECT seqid, xid, tablename, op::text, olddata::text, newdata::text
FROM dbmirror2.pending_data
WHERE seqid > %(after)s::bigint AND seqid <= %(last)s::bigint
  AND xid IN (SELECT unnest(%(xids)s::bigint[]))
ORDER BY seqid LIMIT %(limit)s;

-- name: outbox_part
SELECT seqid, xid, 'outbox.' || kind, op::text, old::text, new::text, ts
FROM mbevents.outbox
WHERE seqid > %(after)s::bigint AND seqid <= %(last)s::bigint
  AND xid IN (SELECT unnest(%(xids)s::bigint[]))
ORDER BY seqid LIMIT %(limit)s;

-- name: times_part
SELECT xid, ts FROM dbmirror2.pending_ts WHERE xid = ANY (%(xids)s::bigint[]);

-- name: session
SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid();

-- name: end_session
-- The start tells it from another session that has its pid by now.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid = %(pid)s AND backend_start = %(since)s AND datname = current_database();

-- name: lead
SELECT pg_try_advisory_lock(%(key)s);

-- name: release
SELECT pg_advisory_unlock(%(key)s);

-- name: probe
SELECT pg_notify('mbevents', %(token)s);

-- name: trim_pending
-- All that the last tick saw is in the log. In bites, so that nobody waits for it.
DELETE FROM dbmirror2.pending_data WHERE seqid IN (
    SELECT seqid FROM dbmirror2.pending_data
    WHERE xid < %(xmax)s::bigint AND xid <> ALL (%(running)s::bigint[]) ORDER BY seqid LIMIT %(limit)s
);

-- name: trim_times
DELETE FROM dbmirror2.pending_ts WHERE xid IN (
    SELECT xid FROM dbmirror2.pending_ts t
    WHERE xid < %(xmax)s::bigint AND xid <> ALL (%(running)s::bigint[]) ORDER BY xid LIMIT %(limit)s
);

-- name: trim_outbox
DELETE FROM mbevents.outbox WHERE seqid IN (
    SELECT seqid FROM mbevents.outbox
    WHERE xid < %(xmax)s::bigint AND xid <> ALL (%(running)s::bigint[]) ORDER BY seqid LIMIT %(limit)s
);

-- name: open_tasks
-- Work that may not have reached its queue: after a crash its messages are made again from the log.
SELECT id, queue, actor, positions FROM mbevents.task
WHERE state = 'queued' AND positions[cardinality(positions)] > %(published)s::bigint
ORDER BY positions[cardinality(positions)], id;
