-- name: bury
-- A death that is already told is not told twice.
INSERT INTO mbevents.dead_letter
    (delivery_id, message_id, queue, actor, task_id, message, raw, error, attempts, redeliveries)
VALUES
    (%(delivery_id)s, %(message_id)s, %(queue)s, %(actor)s, %(task_id)s, %(message)s::jsonb, %(raw)s, %(error)s,
     %(attempts)s, %(redeliveries)s)
ON CONFLICT (delivery_id) DO NOTHING;

-- name: task_dead
-- Work that is done stays done, whatever a late copy of its message came to.
UPDATE mbevents.task SET state = 'dead', error = %(error)s, attempts = greatest(attempts, %(attempts)s)
WHERE id = %(task_id)s AND state = 'queued';

-- name: list
-- Without the messages, which may be large; newest first.
SELECT id, queue, actor, task_id, message_id, error, attempts, redeliveries, died_at
FROM mbevents.dead_letter
WHERE (%(ids)s::bigint[] IS NULL OR id = ANY (%(ids)s))
  AND (%(queue)s::text IS NULL OR queue = %(queue)s)
  AND (%(actor)s::text IS NULL OR actor = %(actor)s)
  AND (%(died_before)s::timestamptz IS NULL OR died_at < %(died_before)s)
  AND (%(died_after)s::timestamptz IS NULL OR died_at >= %(died_after)s)
  AND (%(below)s::bigint IS NULL OR id < %(below)s)
ORDER BY id DESC
LIMIT %(limit)s;

-- name: count
SELECT count(*)
FROM mbevents.dead_letter
WHERE (NOT %(decoded)s OR message IS NOT NULL)
  AND (%(ids)s::bigint[] IS NULL OR id = ANY (%(ids)s))
  AND (%(queue)s::text IS NULL OR queue = %(queue)s)
  AND (%(actor)s::text IS NULL OR actor = %(actor)s)
  AND (%(died_before)s::timestamptz IS NULL OR died_at < %(died_before)s)
  AND (%(died_after)s::timestamptz IS NULL OR died_at >= %(died_after)s);

-- name: show
SELECT id, queue, actor, task_id, message_id, error, attempts, redeliveries, died_at, message, raw
FROM mbevents.dead_letter WHERE id = %(id)s;

-- name: newest
SELECT coalesce(max(id), 0) FROM mbevents.dead_letter;

-- name: take
-- The next batch of what matches, removed; only up to the newest of when it began, or what dies again would never end.
WITH batch AS (
    SELECT id FROM mbevents.dead_letter
    WHERE id > %(above)s AND id <= %(newest)s
      AND (%(ids)s::bigint[] IS NULL OR id = ANY (%(ids)s))
      AND (%(queue)s::text IS NULL OR queue = %(queue)s)
      AND (%(actor)s::text IS NULL OR actor = %(actor)s)
      AND (%(died_before)s::timestamptz IS NULL OR died_at < %(died_before)s)
      AND (%(died_after)s::timestamptz IS NULL OR died_at >= %(died_after)s)
      AND (NOT %(decoded)s OR message IS NOT NULL)
    ORDER BY id LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM mbevents.dead_letter d USING batch WHERE d.id = batch.id
    RETURNING d.id, d.task_id, CASE WHEN %(decoded)s THEN d.message END AS message
)
SELECT id, task_id, message FROM gone ORDER BY id;

-- name: tasks_queued
UPDATE mbevents.task SET state = 'queued', error = NULL, enqueued_at = now(), enqueues = enqueues + 1
WHERE id = ANY (%(ids)s) AND state = 'dead';

-- name: tasks_discarded
-- A message of a task that is not there is skipped.
DELETE FROM mbevents.task WHERE id = ANY (%(ids)s) AND state = 'dead';
