-- The bridge is woken by a NOTIFY: a hint, with a constant payload, once a transaction, and only while it sleeps.

-- name: hint
-- True when it was sent. The number is events.locks.AWAKE_KEY: the bridge holds it exclusively while it is awake.
-- A single expression in SQL, so that PostgreSQL puts it into its caller's instead of calling it. No lock is kept.
CREATE OR REPLACE FUNCTION mbevents.hint() RETURNS boolean LANGUAGE sql VOLATILE
RETURN CASE
    WHEN pg_catalog.pg_try_advisory_lock_shared(7881973855332335617)
    THEN pg_catalog.pg_advisory_unlock_shared(7881973855332335617) AND pg_catalog.pg_notify('mbevents', '') IS NOT NULL
    ELSE false
END;

-- name: hint_of_transaction
-- For a capture that is not ours: it inserts into pending_ts once a transaction.
CREATE OR REPLACE FUNCTION mbevents.hint_of_transaction() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $body$
DECLARE
    hinted boolean := mbevents.hint();
BEGIN
    RETURN NULL;
END
$body$;
