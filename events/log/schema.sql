-- What happened, in the order in which it was found. Written by the bridge (on a mirror by the packet's transaction).
CREATE TABLE IF NOT EXISTS mbevents.event (
    position bigint NOT NULL,
    -- The partition key: days are dropped whole. Not the time of the change, which is in `time`.
    recorded_at timestamptz NOT NULL,
    id text NOT NULL,
    type text NOT NULL,
    source text NOT NULL,
    subject text NOT NULL,
    -- As text, because an event that is published again must be the same to the letter.
    time text NOT NULL,
    xid bigint NOT NULL,
    data json NOT NULL,
    PRIMARY KEY (position, recorded_at)
) PARTITION BY RANGE (recorded_at);
-- The first days; the bridge makes the next, by the same names (events.log.partitions).
DO $do$
DECLARE
    first date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    FOR n IN 0..2 LOOP
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS mbevents.%I PARTITION OF mbevents.event FOR VALUES FROM (%L) TO (%L)',
            'event_' || to_char(first + n, 'YYYYMMDD'), (first + n) || ' 00:00:00+00', (first + n + 1) || ' 00:00:00+00'
        );
    END LOOP;
END
$do$;
CREATE INDEX IF NOT EXISTS event_subject ON mbevents.event (subject, position);

-- One row: the last position given, and the last that reached the channels and queues.
CREATE TABLE IF NOT EXISTS mbevents.head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    position bigint NOT NULL DEFAULT 0,
    published bigint NOT NULL DEFAULT 0,
    CHECK (published <= position)
);
INSERT INTO mbevents.head DEFAULT VALUES ON CONFLICT DO NOTHING;
