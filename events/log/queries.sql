-- name: head
SELECT position, published FROM mbevents.head;

-- name: advance
-- NULL, which the column refuses, when somebody else has given out positions meanwhile.
UPDATE mbevents.head SET position = CASE WHEN position = %(from)s THEN %(position)s::bigint END;

-- name: published
-- Only a hint where to go on after a crash: to lose it publishes a little again, so no disk is waited for.
UPDATE mbevents.head SET published = %(published)s
WHERE published < %(published)s AND set_config('synchronous_commit', 'off', true) = 'off';

-- name: copy
COPY mbevents.event (position, recorded_at, id, type, source, subject, time, xid, data) FROM STDIN;

-- name: insert
-- For a few events: unlike a COPY, it travels with other statements in one round trip.
INSERT INTO mbevents.event (position, recorded_at, id, type, source, subject, time, xid, data)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: read
-- The lower bound of recorded_at is there for the planner, which leaves out whole days by it.
SELECT position, id, type, source, subject, time, data::text
FROM mbevents.event
WHERE position > %(after)s
  AND (%(types)s::text[] IS NULL OR type = ANY (%(types)s))
  AND recorded_at >= coalesce(%(since)s::timestamptz, '-infinity')
ORDER BY position
LIMIT %(limit)s;

-- name: window
-- The end comes with each row, and alone when there is none. Other types send no data: their positions show holes.
SELECT head.position, event.position, id, type, source, subject, time,
       CASE WHEN %(types)s::text[] IS NULL OR type = ANY (%(types)s) THEN data::text END
FROM mbevents.head LEFT JOIN (
    SELECT * FROM mbevents.event WHERE position > %(after)s::bigint ORDER BY position LIMIT %(limit)s
) event ON true
ORDER BY event.position;

-- name: at
SELECT position, id, type, source, subject, time, data::text
FROM mbevents.event WHERE position = ANY (%(positions)s) ORDER BY position;

-- name: by_id
SELECT position, id, type, source, subject, time, data::text
FROM mbevents.event WHERE id = %(id)s ORDER BY position DESC LIMIT 1;

-- name: by_subject
SELECT position, id, type, source, subject, time, data::text
FROM mbevents.event
WHERE subject = %(subject)s
  AND (%(types)s::text[] IS NULL OR type = ANY (%(types)s))
  AND recorded_at >= coalesce(%(since)s::timestamptz, '-infinity')
ORDER BY position DESC LIMIT %(limit)s;

-- name: latest
SELECT position, id, type, source, subject, time, data::text
FROM mbevents.event
WHERE (%(types)s::text[] IS NULL OR type = ANY (%(types)s))
  AND recorded_at >= coalesce(%(since)s::timestamptz, '-infinity')
ORDER BY position DESC LIMIT %(limit)s;

-- name: partitions
SELECT child.relname, pg_get_expr(child.relpartbound, child.oid)
FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
WHERE inhparent = 'mbevents.event'::regclass ORDER BY child.relname;

-- name: oldest_needed
-- Positions from here on are not yet published or belong to work that is not done.
SELECT least(
    (SELECT published + 1 FROM mbevents.head),
    (SELECT min(positions[1]) FROM mbevents.task WHERE state = 'queued')
);
