-- One row: up to where the bridge has looked. Its form is producers/bridge/core.py's.
CREATE TABLE IF NOT EXISTS mbevents.tick (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    state jsonb NOT NULL,
    ticked_at timestamptz NOT NULL DEFAULT now()
);
-- What was committed before the installation is not news. Transactions that are in progress now are waited for, and
-- looked for from the very beginning.
INSERT INTO mbevents.tick (state)
SELECT jsonb_build_object('version', 1, 'snapshot', pg_current_snapshot()::text, 'pending', 0, 'outbox', 0)
ON CONFLICT DO NOTHING;
