-- The capture of row changes, in the form that dbmirror2 gave it and that its readers know. Our own writing.
--
-- The trigger functions run with their owner's rights, so that editors need none on dbmirror2. So every name is
-- qualified, of operators and types too: a session's search_path may be anything.
-- A SET clause would do that too, and cost each row more.

-- name: pending_data
CREATE TABLE dbmirror2.pending_data (
    -- Cache 1: the bridge relies on a transaction's ids being higher than what was given out before it began.
    seqid bigserial PRIMARY KEY,
    tablename text NOT NULL,
    op "char" NOT NULL,
    xid bigint NOT NULL,
    -- Not jsonb: the columns stay in the table's order.
    olddata json,
    newdata json,
    oldctid tid,
    trgdepth integer
);

-- name: pending_keys
-- Empty but during an export: dbmirror2's triggers do not fill it either, and an exporter must not meet rows in it.
CREATE TABLE dbmirror2.pending_keys (
    tablename text PRIMARY KEY,
    keys text[] NOT NULL
);

-- name: pending_ts
CREATE TABLE dbmirror2.pending_ts (
    xid bigint PRIMARY KEY,
    ts timestamptz NOT NULL
);

-- name: recordchange
-- The fast path: one look at a setting and one insert for each row, and one more insert for each transaction. What is
-- written out three times here would cost a third more as a function: most of a call's time is its preparation.
--
-- mbevents.tx, local to the transaction and undone with a savepoint: empty before its first row, then '0', or the first
-- seqid that a cascade logged.
CREATE OR REPLACE FUNCTION dbmirror2.recordchange() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $body$
DECLARE
    -- To return a variable is a look; to return NULL is an expression that is prepared in each transaction.
    nothing record;
    done boolean;
BEGIN
    IF pg_catalog.current_setting('mbevents.tx', true) OPERATOR(pg_catalog.=) '0'
        AND (pg_catalog.pg_trigger_depth() OPERATOR(pg_catalog.=) 1 OR TG_OP OPERATOR(pg_catalog.=) 'INSERT')
    THEN
        INSERT INTO dbmirror2.pending_data (tablename, op, xid, olddata, newdata, oldctid, trgdepth)
        VALUES (
            -- One call: each more is prepared for every row. Not an argument of the trigger, which would
            -- keep the old name of a table that is renamed.
            pg_catalog.format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME),
            pg_catalog.lower(pg_catalog."left"(TG_OP, 1)),
            pg_catalog.txid_current(),
            pg_catalog.row_to_json(OLD),
            pg_catalog.row_to_json(NEW),
            OLD.ctid,
            pg_catalog.pg_trigger_depth()
        );
    ELSIF coalesce(pg_catalog.current_setting('mbevents.tx', true), '') OPERATOR(pg_catalog.=) ''
        AND (pg_catalog.pg_trigger_depth() OPERATOR(pg_catalog.=) 1 OR TG_OP OPERATOR(pg_catalog.=) 'INSERT')
    THEN
        -- All that the first row needs, in one statement. Conflicts only come of a RESET ALL in mid-transaction.
        WITH first AS (
            INSERT INTO dbmirror2.pending_ts (xid, ts)
            SELECT pg_catalog.txid_current(), pg_catalog.transaction_timestamp()
            WHERE pg_catalog.set_config('mbevents.tx', '0', true) OPERATOR(pg_catalog.=) '0'
                AND mbevents.hint() IS NOT NULL
            ON CONFLICT DO NOTHING
        )
        INSERT INTO dbmirror2.pending_data (tablename, op, xid, olddata, newdata, oldctid, trgdepth)
        VALUES (
            pg_catalog.format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME),
            pg_catalog.lower(pg_catalog."left"(TG_OP, 1)),
            pg_catalog.txid_current(),
            pg_catalog.row_to_json(OLD),
            pg_catalog.row_to_json(NEW),
            OLD.ctid,
            pg_catalog.pg_trigger_depth()
        );
    ELSE
        INSERT INTO dbmirror2.pending_data (tablename, op, xid, olddata, newdata, oldctid, trgdepth)
        VALUES (
            pg_catalog.format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME),
            pg_catalog.lower(pg_catalog."left"(TG_OP, 1)),
            pg_catalog.txid_current(),
            pg_catalog.row_to_json(OLD),
            pg_catalog.row_to_json(NEW),
            OLD.ctid,
            pg_catalog.pg_trigger_depth()
        );
        IF coalesce(pg_catalog.current_setting('mbevents.tx', true), '') OPERATOR(pg_catalog.=) ''
            OR pg_catalog.current_setting('mbevents.tx', true) OPERATOR(pg_catalog.=) '0'
            OR NEW.xmax OPERATOR(pg_catalog.<>) '0'::pg_catalog.xid
        THEN
            done := mbevents.captured(TG_OP, NEW.ctid, NEW.xmax);
        END IF;
    END IF;
    RETURN nothing;
END
$body$;

-- name: captured
-- What follows a captured row that is not on the fast path.
--
-- An AFTER trigger that changes rows has its changes logged before the change that fired it. So a change can be logged
-- before the one that made the row version it starts from: but only one that a trigger made (depth > 1) and that starts
-- from a version (no insert). And the version that is logged too late has been replaced by then: its xmax says so,
-- without a search. A row lock leaves an xmax too; mbevents.reorder looks closer.
CREATE OR REPLACE FUNCTION mbevents.captured(operation text, newctid tid, newxmax xid) RETURNS boolean
LANGUAGE plpgsql AS $body$
DECLARE
    tx pg_catalog.text := coalesce(pg_catalog.current_setting('mbevents.tx', true), '');
    this bigint := pg_catalog.currval('dbmirror2.pending_data_seqid_seq');
    next_tx pg_catalog.text := tx;
BEGIN
    IF tx OPERATOR(pg_catalog.=) '' THEN
        INSERT INTO dbmirror2.pending_ts (xid, ts)
        VALUES (pg_catalog.txid_current(), pg_catalog.transaction_timestamp())
        ON CONFLICT DO NOTHING;
        next_tx := '0';
    END IF;
    IF next_tx OPERATOR(pg_catalog.=) '0'
        AND operation OPERATOR(pg_catalog.<>) 'INSERT' AND pg_catalog.pg_trigger_depth() OPERATOR(pg_catalog.>) 1
    THEN
        next_tx := this::pg_catalog.text;
    END IF;
    IF next_tx OPERATOR(pg_catalog.<>) tx THEN
        next_tx := pg_catalog.set_config('mbevents.tx', next_tx, true);
    END IF;
    IF tx OPERATOR(pg_catalog.=) '' THEN
        RETURN mbevents.hint();
    END IF;
    IF next_tx OPERATOR(pg_catalog.<>) '0' AND newxmax OPERATOR(pg_catalog.<>) '0'::pg_catalog.xid THEN
        RETURN mbevents.reorder(next_tx::bigint, this, newctid);
    END IF;
    RETURN false;
END
$body$;

-- name: reorder
-- The row just logged as `this` goes before the logged change that started from the version it made, if there is one:
-- the seqids of this transaction's rows from that change on shift by one. `since`: no such change has a lower seqid.
CREATE OR REPLACE FUNCTION mbevents.reorder(since bigint, this bigint, newctid tid) RETURNS boolean LANGUAGE plpgsql
-- Back from the end by the primary key: what is looked for was nearly always logged last. And a plan that was made
-- when the table was small must not read all of it once it is large.
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $body$
DECLARE
    tablename_ pg_catalog.text;
    current_ boolean;
    later bigint;
    free bigint := this;
    moved bigint;
BEGIN
    SELECT tablename INTO tablename_ FROM dbmirror2.pending_data WHERE seqid OPERATOR(pg_catalog.=) this;
    -- Its xmax may be but a lock: a version that is still the current one was not replaced.
    EXECUTE pg_catalog.format('SELECT true FROM ONLY %s WHERE ctid OPERATOR(pg_catalog.=) $1', tablename_)
        INTO current_ USING newctid;
    IF current_ THEN
        RETURN false;
    END IF;
    SELECT seqid INTO later FROM dbmirror2.pending_data
    WHERE seqid OPERATOR(pg_catalog.>=) since AND seqid OPERATOR(pg_catalog.<) this
        AND xid OPERATOR(pg_catalog.=) pg_catalog.txid_current()
        AND tablename OPERATOR(pg_catalog.=) tablename_ AND oldctid OPERATOR(pg_catalog.=) newctid
    ORDER BY seqid DESC LIMIT 1;
    IF later IS NULL THEN
        RETURN false;
    END IF;
    UPDATE dbmirror2.pending_data SET seqid = OPERATOR(pg_catalog.-) this WHERE seqid OPERATOR(pg_catalog.=) this;
    FOR moved IN
        SELECT seqid FROM dbmirror2.pending_data
        WHERE seqid OPERATOR(pg_catalog.>=) later AND seqid OPERATOR(pg_catalog.<) this
            AND xid OPERATOR(pg_catalog.=) pg_catalog.txid_current()
        ORDER BY seqid DESC
    LOOP
        UPDATE dbmirror2.pending_data SET seqid = free WHERE seqid OPERATOR(pg_catalog.=) moved;
        free := moved;
    END LOOP;
    UPDATE dbmirror2.pending_data SET seqid = free
    WHERE seqid OPERATOR(pg_catalog.=) (OPERATOR(pg_catalog.-) this);
    RETURN true;
END
$body$;

-- name: record_editor
-- recordchange() for musicbrainz.editor: what is private is replaced before anything is written, by what MusicBrainz
-- puts in its place; an update of nothing else is not logged.
CREATE OR REPLACE FUNCTION mbevents.record_editor() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $body$
DECLARE
    oldctid_ pg_catalog.tid := OLD.ctid;
    newctid_ pg_catalog.tid := NEW.ctid;
    newxmax_ pg_catalog.xid := NEW.xmax;
    done boolean;
BEGIN
    IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN
        OLD.privs := 0;
        OLD.email := '';
        OLD.website := NULL;
        OLD.bio := NULL;
        OLD.last_login_date := pg_catalog.now();
        OLD.birth_date := NULL;
        OLD.gender := NULL;
        OLD.area := NULL;
        OLD.password := '{CLEARTEXT}mb';
        OLD.ha1 := pg_catalog.md5(OLD.name OPERATOR(pg_catalog.||) ':musicbrainz.org:mb');
    END IF;
    IF TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN
        NEW.privs := 0;
        NEW.email := '';
        NEW.website := NULL;
        NEW.bio := NULL;
        NEW.last_login_date := pg_catalog.now();
        NEW.birth_date := NULL;
        NEW.gender := NULL;
        NEW.area := NULL;
        NEW.password := '{CLEARTEXT}mb';
        NEW.ha1 := pg_catalog.md5(NEW.name OPERATOR(pg_catalog.||) ':musicbrainz.org:mb');
    END IF;
    IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' AND OLD OPERATOR(pg_catalog.*=) NEW THEN
        RETURN NULL;
    END IF;
    INSERT INTO dbmirror2.pending_data (tablename, op, xid, olddata, newdata, oldctid, trgdepth)
    VALUES (
        pg_catalog.format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME),
        pg_catalog.lower(pg_catalog."left"(TG_OP, 1)),
        pg_catalog.txid_current(),
        pg_catalog.row_to_json(OLD),
        pg_catalog.row_to_json(NEW),
        oldctid_,
        pg_catalog.pg_trigger_depth()
    );
    done := mbevents.captured(TG_OP, newctid_, newxmax_);
    RETURN NULL;
END
$body$;
