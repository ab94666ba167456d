-- One row: up to where the bridge has looked. Its form is producers/bridge/core.py's.
CREATE TABLE IF NOT EXISTS mbevents.tick (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    state jsonb NOT NULL,
    ticked_at timestamptz NOT NULL DEFAULT now()
);
-- On a master: the snapshots of the ticks, in order, by which the export knows in which order transactions were
-- committed. All below `until` had ended, but for `running`. The export deletes those that it has used.
CREATE TABLE IF NOT EXISTS mbevents.tick_snapshot (
    tick bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    until bigint NOT NULL,
    running bigint[] NOT NULL
);
-- `until` never goes back, so the first tick that saw a transaction is the first one that is found by it.
CREATE INDEX IF NOT EXISTS tick_snapshot_until ON mbevents.tick_snapshot (until, tick);
-- What was committed before the installation is not news. Transactions that are in progress now are waited for, and
-- looked for from the very beginning.
INSERT INTO mbevents.tick (state)
SELECT jsonb_build_object('version', 1, 'snapshot', pg_current_snapshot()::text, 'pending', 0, 'outbox', 0)
ON CONFLICT DO NOTHING;
