-- What is not replicated, or may not be as it is: edits, votes, notes, editors, and that a table was truncated. Only
-- the columns that may be told to anyone.

-- name: outbox
CREATE TABLE mbevents.outbox (
    -- A sequence of its own, also with cache 1.
    seqid bigserial PRIMARY KEY,
    xid bigint NOT NULL,
    ts timestamptz NOT NULL,
    kind text NOT NULL,
    op "char" NOT NULL,
    old jsonb,
    new jsonb
);

-- name: tell
CREATE OR REPLACE FUNCTION mbevents.tell(kind_ text, operation text, old_ jsonb, new_ jsonb) RETURNS boolean
LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO mbevents.outbox (xid, ts, kind, op, old, new)
    VALUES (
        pg_catalog.txid_current(), pg_catalog.transaction_timestamp(), kind_,
        pg_catalog.lower(pg_catalog."left"(operation, 1)),
        CASE WHEN operation OPERATOR(pg_catalog.<>) 'INSERT' THEN old_ END,
        CASE WHEN operation OPERATOR(pg_catalog.<>) 'DELETE' THEN new_ END
    );
    IF coalesce(pg_catalog.current_setting('mbevents.told', true), '') OPERATOR(pg_catalog.=) ''
        AND pg_catalog.set_config('mbevents.told', 'yes', true) OPERATOR(pg_catalog.=) 'yes'
    THEN
        RETURN mbevents.hint();
    END IF;
    RETURN false;
END
$body$;

-- name: record_edit
CREATE OR REPLACE FUNCTION mbevents.record_edit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $body$
DECLARE
    done boolean;
BEGIN
    done := mbevents.tell('edit', TG_OP,
        pg_catalog.jsonb_build_object('id', OLD.id, 'editor', OLD.editor, 'type', OLD.type, 'status', OLD.status,
            'autoedit', OLD.autoedit, 'open_time', OLD.open_time, 'close_time', OLD.close_time,
            'expire_time', OLD.expire_time, 'quality', OLD.quality),
        pg_catalog.jsonb_build_object('id', NEW.id, 'editor', NEW.editor, 'type', NEW.type, 'status', NEW.status,
            'autoedit', NEW.autoedit, 'open_time', NEW.open_time, 'close_time', NEW.close_time,
            'expire_time', NEW.expire_time, 'quality', NEW.quality));
    RETURN NULL;
END
$body$;

-- name: record_vote
CREATE OR REPLACE FUNCTION mbevents.record_vote() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $body$
DECLARE
    done boolean;
BEGIN
    done := mbevents.tell('vote', TG_OP,
        pg_catalog.jsonb_build_object('id', OLD.id, 'editor', OLD.editor, 'edit', OLD.edit, 'vote', OLD.vote,
            'superseded', OLD.superseded, 'vote_time', OLD.vote_time),
        pg_catalog.jsonb_build_object('id', NEW.id, 'editor', NEW.editor, 'edit', NEW.edit, 'vote', NEW.vote,
            'superseded', NEW.superseded, 'vote_time', NEW.vote_time));
    RETURN NULL;
END
$body$;

-- name: record_edit_note
-- Without its text.
CREATE OR REPLACE FUNCTION mbevents.record_edit_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $body$
DECLARE
    done boolean;
BEGIN
    done := mbevents.tell('edit_note', TG_OP,
        pg_catalog.jsonb_build_object('id', OLD.id, 'editor', OLD.editor, 'edit', OLD.edit,
            'post_time', OLD.post_time),
        pg_catalog.jsonb_build_object('id', NEW.id, 'editor', NEW.editor, 'edit', NEW.edit,
            'post_time', NEW.post_time));
    RETURN NULL;
END
$body$;

-- name: tell_editor
-- Logins and changes of the address are nobody's business: such an update is not written.
CREATE OR REPLACE FUNCTION mbevents.tell_editor() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $body$
DECLARE
    old_ pg_catalog.jsonb := pg_catalog.jsonb_build_object(
        'id', OLD.id, 'name', OLD.name, 'privs', OLD.privs, 'deleted', OLD.deleted);
    new_ pg_catalog.jsonb := pg_catalog.jsonb_build_object(
        'id', NEW.id, 'name', NEW.name, 'privs', NEW.privs, 'deleted', NEW.deleted);
    done boolean;
BEGIN
    IF old_ OPERATOR(pg_catalog.<>) new_ THEN
        done := mbevents.tell('editor', TG_OP, old_, new_);
    END IF;
    RETURN NULL;
END
$body$;

-- name: record_truncate
-- No row change says that a table was emptied, so a mirror and every consumer keep the rows: told, and warned of.
CREATE OR REPLACE FUNCTION mbevents.record_truncate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $body$
DECLARE
    name_ pg_catalog.text := pg_catalog.format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME);
    done boolean;
BEGIN
    done := mbevents.tell('truncate', 'DELETE', pg_catalog.jsonb_build_object('table', name_), NULL);
    RAISE WARNING 'TRUNCATE of % is not replicated: mirrors keep its rows, and no event tells of them one by one', name_
        USING HINT = 'Use DELETE to have every row captured.';
    RETURN NULL;
END
$body$;
