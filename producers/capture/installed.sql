-- What of ours is in the database, so that an uninstall takes away just that, and a check sees what was changed.

-- name: installed
CREATE TABLE IF NOT EXISTS mbevents.installed (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT now()
);

-- name: installed_object
CREATE TABLE IF NOT EXISTS mbevents.installed_object (
    -- schema, table, function, trigger (named `reptg2_artist ON musicbrainz.artist`), script (named after its package).
    kind text NOT NULL,
    name text NOT NULL,
    -- md5 of what it was made from; for a function, `found` is that of what PostgreSQL then says it is.
    made text NOT NULL,
    found text,
    PRIMARY KEY (kind, name)
);
