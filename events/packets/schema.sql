-- Who may read the feed. Only a hash of a token is here: whoever reads this table cannot use it.
-- Written by workers/replication/tokens.py.
CREATE TABLE IF NOT EXISTS mbevents.feed_token (
    name text PRIMARY KEY,
    sha256 bytea NOT NULL UNIQUE CHECK (octet_length(sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT now()
);
