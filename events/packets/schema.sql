-- Who may read the feed. Only a hash of a token is here: whoever reads this table cannot use it.
-- Written by workers/replication/tokens.py.
CREATE TABLE IF NOT EXISTS mbevents.feed_token (
    name text PRIMARY KEY,
    sha256 bytea NOT NULL UNIQUE CHECK (octet_length(sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Packets of a master, on their way out. A row is a promise: the packet of that sequence has the rows that were seen then
-- and, whatever happens on the way, always the same bytes. Written by workers/replication/export.
CREATE TABLE IF NOT EXISTS mbevents.packet (
    sequence bigint PRIMARY KEY,
    -- cut: it is decided what is in it. built: its bytes are known. published: it is in the store, its rows are gone.
    state text NOT NULL DEFAULT 'cut' CHECK (state IN ('cut', 'built', 'published')),
    schema_sequence integer NOT NULL,
    exported_at timestamptz NOT NULL,
    -- What it sees of the captured rows: those of transactions below `until`, but for `running`. The last tick that tells
    -- their order.
    until bigint NOT NULL,
    running bigint[] NOT NULL,
    tick bigint NOT NULL,
    -- The events of its changes are among these of the log.
    first_position bigint NOT NULL,
    last_position bigint NOT NULL,
    -- Its last change: the UPDATE of replication_control, which is made for good when it is published.
    control_seqid bigint NOT NULL,
    control_xid bigint NOT NULL,
    control_old json NOT NULL,
    control_new json NOT NULL,
    -- From here on known when it is built; files: [{"name", "size", "sha256"}].
    transactions bigint,
    changes bigint,
    files jsonb,
    published_at timestamptz
);
-- The next one is cut when the last one is out.
CREATE UNIQUE INDEX IF NOT EXISTS packet_unpublished ON mbevents.packet ((true)) WHERE state <> 'published';

-- Whether a mirror is to stand still, and when it was last seen to have everything. One row.
-- Written by workers/replication/sync.
CREATE TABLE IF NOT EXISTS mbevents.replication_state (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    paused boolean NOT NULL DEFAULT false,
    up_to_date_at timestamptz
);
INSERT INTO mbevents.replication_state DEFAULT VALUES ON CONFLICT DO NOTHING;

-- What brought a mirror up to date: a row for each pass that applied a packet or failed, brought up to date after each packet.
-- One without an end is going on, or was killed. Written by workers/replication/sync, which keeps the newest ones.
CREATE TABLE IF NOT EXISTS mbevents.sync_run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    from_sequence bigint,
    to_sequence bigint,
    packets integer NOT NULL DEFAULT 0,
    changes bigint NOT NULL DEFAULT 0,
    -- Packets that were applied one by one; rows that were not what a packet says they were.
    one_by_one integer NOT NULL DEFAULT 0,
    diverged bigint NOT NULL DEFAULT 0,
    -- How it ended: it is NULL as long as ended_at is. Of one that was killed, the next one says so.
    outcome text CHECK (outcome IN ('applied', 'stopped', 'failed', 'version_mismatch', 'killed')),
    -- For people; without anything secret.
    error text
);

-- Sums of the runs that are kept no longer: what monitoring counts must not shrink when they go.
-- Written by workers/replication/sync.
CREATE TABLE IF NOT EXISTS mbevents.sync_trimmed (
    outcome text PRIMARY KEY,
    runs bigint NOT NULL,
    changes bigint NOT NULL
);

-- Why the last export of a master failed; no row while the last one succeeded. Written by the export.
CREATE TABLE IF NOT EXISTS mbevents.export_failure (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    failed_at timestamptz NOT NULL DEFAULT now(),
    -- For people; without anything secret.
    error text NOT NULL
);
