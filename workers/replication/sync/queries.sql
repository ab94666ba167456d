-- name: installed
SELECT to_regclass('mbevents.event') IS NOT NULL AND to_regclass('mbevents.sync_run') IS NOT NULL
    AND to_regclass('mbevents.replication_state') IS NOT NULL;

-- name: captures
-- Whether changes are captured here, as a master does: what packets change would be as well.
SELECT EXISTS (
    SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE t.tgrelid = to_regclass('musicbrainz.replication_control') AND n.nspname = 'dbmirror2' AND t.tgenabled <> 'D'
);

-- name: prepare
-- When we are killed the server notices, rolls back, and lets the next one begin.
SELECT set_config('client_connection_check_interval', '1s', false);

-- name: claim
SELECT pg_try_advisory_lock(%(key)s);

-- name: sequence
SELECT current_replication_sequence FROM musicbrainz.replication_control;

-- name: lag
-- Seconds since the master exported what is here.
SELECT extract(epoch FROM clock_timestamp() - last_replication_date)::float8 FROM musicbrainz.replication_control;

-- name: paused
SELECT paused FROM mbevents.replication_state;

-- name: pause
UPDATE mbevents.replication_state SET paused = %(paused)s WHERE paused <> %(paused)s;

-- name: up_to_date
UPDATE mbevents.replication_state SET up_to_date_at = clock_timestamp();

-- name: begin_run
-- By the database's clock, as its end.
INSERT INTO mbevents.sync_run (started_at, from_sequence, to_sequence)
VALUES (clock_timestamp() - make_interval(secs => %(ago)s), %(sequence)s, %(sequence)s) RETURNING id;

-- name: close_runs
-- Whoever has the lock knows that nobody else is at it.
UPDATE mbevents.sync_run SET ended_at = clock_timestamp(), outcome = 'killed', error = 'It was killed, or lost its database.'
WHERE ended_at IS NULL;

-- name: note_run
UPDATE mbevents.sync_run
SET to_sequence = %(sequence)s, packets = %(packets)s, changes = %(changes)s, one_by_one = %(one_by_one)s,
    diverged = %(diverged)s
WHERE id = %(id)s;

-- name: end_run
UPDATE mbevents.sync_run SET ended_at = clock_timestamp(), outcome = %(outcome)s, error = %(error)s WHERE id = %(id)s;

-- name: trim_runs
WITH trimmed AS (
    DELETE FROM mbevents.sync_run WHERE id <= %(id)s::bigint - %(kept)s::bigint RETURNING outcome, changes
)
INSERT INTO mbevents.sync_trimmed AS sums (outcome, runs, changes)
SELECT coalesce(outcome, 'killed'), count(*), sum(changes) FROM trimmed GROUP BY 1
ON CONFLICT (outcome) DO UPDATE SET runs = sums.runs + excluded.runs, changes = sums.changes + excluded.changes;
