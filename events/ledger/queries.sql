-- name: add
-- Many in one statement; ids rise in the order given. An array of arrays of different lengths cannot be unnested: text.
INSERT INTO mbevents.task (queue, actor, positions)
SELECT queue, actor, positions::bigint[]
FROM unnest(%(queues)s::text[], %(actors)s::text[], %(positions)s::text[])
     WITH ORDINALITY AS given (queue, actor, positions, n)
ORDER BY n
RETURNING id;

-- name: state
SELECT state FROM mbevents.task WHERE id = %(id)s;

-- name: complete
UPDATE mbevents.task SET state = 'done', done_at = now(), error = NULL, attempts = greatest(attempts, %(attempts)s)
WHERE id = %(id)s AND state <> 'done';

-- name: fail
UPDATE mbevents.task SET state = 'dead', error = %(error)s, attempts = greatest(attempts, %(attempts)s)
WHERE id = %(id)s AND state = 'queued';

-- name: overdue
-- By age, so that a caller can go through all of them, page by page, without writing to those that are all right.
SELECT id, queue, actor, positions, enqueues, enqueued_at
FROM mbevents.task
WHERE state = 'queued'
  AND enqueued_at < now() - %(older_than)s * interval '1 second'
  AND (enqueued_at, id) > (%(after_time)s, %(after_id)s)
ORDER BY enqueued_at, id
LIMIT %(limit)s;

-- name: overdue_by_age
-- For a broker that cannot be asked: the wait grows with each time, up to an hour.
SELECT id, queue, actor, positions, enqueues, enqueued_at
FROM mbevents.task
WHERE state = 'queued'
  AND enqueued_at < now() - least(%(older_than)s * power(2, least(enqueues - 1, 10)), 3600) * interval '1 second'
  AND enqueued_at < now() - %(older_than)s * interval '1 second'
ORDER BY enqueued_at, id
LIMIT %(limit)s;

-- name: still_queued
SELECT id FROM mbevents.task WHERE id = ANY (%(ids)s) AND state = 'queued' ORDER BY id;

-- name: enqueued
UPDATE mbevents.task SET enqueued_at = now(), enqueues = enqueues + 1 WHERE id = ANY (%(ids)s) AND state = 'queued';

-- name: purge
DELETE FROM mbevents.task WHERE id IN (
    SELECT id FROM mbevents.task
    WHERE state = 'done' AND done_at < now() - %(older_than)s * interval '1 second'
    ORDER BY done_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
);

-- name: counts
SELECT state, count(*) FROM mbevents.task GROUP BY state;
