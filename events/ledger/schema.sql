-- Work that must be done, whatever happens to the queues. The bridge writes a row in the transaction that appends the
-- events to the log; the message in the queue is only a copy, made again when it is lost.
CREATE TABLE IF NOT EXISTS mbevents.task (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    actor text NOT NULL,
    -- Where its events are in the log.
    positions bigint[] NOT NULL,
    state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'done', 'dead')),
    -- How often it was put in its queue.
    enqueues integer NOT NULL DEFAULT 1,
    attempts integer NOT NULL DEFAULT 0,
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    enqueued_at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz
);
CREATE INDEX IF NOT EXISTS task_queued ON mbevents.task (enqueued_at, id) WHERE state = 'queued';
CREATE INDEX IF NOT EXISTS task_done ON mbevents.task (done_at) WHERE state = 'done';
