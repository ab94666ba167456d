-- name: make_drafts
CREATE TEMP TABLE mbevents_drafts (LIKE mbevents.event) ON COMMIT DROP;

-- name: fill_drafts
COPY pg_temp.mbevents_drafts (position, recorded_at, id, type, source, subject, time, xid, data) FROM STDIN;

-- name: make_times
CREATE TEMP TABLE mbevents_times (xid bigint PRIMARY KEY, ts timestamptz NOT NULL) ON COMMIT DROP;

-- name: fill_times
COPY pg_temp.mbevents_times FROM STDIN;

-- name: log_drafts
-- The time as the bridge writes it: RFC 3339 in UTC, without a fraction that is zero. A transaction of which the packet
-- has none keeps what it has: the packet's.
INSERT INTO mbevents.event (position, recorded_at, id, type, source, subject, time, xid, data)
SELECT position, recorded_at, id, type, source, subject,
    coalesce(
        (
            SELECT replace(to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '.000000Z', 'Z')
            FROM pg_temp.mbevents_times t WHERE t.xid = d.xid
        ),
        time
    ),
    xid, data
FROM pg_temp.mbevents_drafts d;

-- name: wake
NOTIFY mbevents;
