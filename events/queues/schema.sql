-- Messages that will not run again by themselves. They stay until somebody retries or discards them.
CREATE TABLE IF NOT EXISTS mbevents.dead_letter (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Names one delivery: the same death, told twice (a crash between the insert and the removal from Redis), is one row.
    delivery_id text NOT NULL UNIQUE,
    message_id text,
    queue text NOT NULL,
    actor text,
    task_id bigint,
    -- NULL when what was in the queue is no message; then raw has it.
    message jsonb,
    raw bytea,
    error text NOT NULL,
    attempts integer NOT NULL DEFAULT 1,
    redeliveries integer NOT NULL DEFAULT 0,
    died_at timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nonnulls(message, raw) = 1)
);
CREATE INDEX IF NOT EXISTS dead_letter_queue_actor ON mbevents.dead_letter (queue, actor, id);
CREATE INDEX IF NOT EXISTS dead_letter_actor ON mbevents.dead_letter (actor, id);
CREATE INDEX IF NOT EXISTS dead_letter_died_at ON mbevents.dead_letter (died_at);
