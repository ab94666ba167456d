-- name: database
SELECT current_database(), current_user, has_database_privilege(current_database(), 'CREATE');

-- name: schemas
-- Those that are there, and whether we may use them and create in them.
SELECT nspname, has_schema_privilege(oid, 'CREATE, USAGE') AND has_schema_privilege(oid, 'USAGE')
FROM pg_namespace WHERE nspname = ANY (%(schemas)s);

-- name: relations
SELECT n.nspname || '.' || c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('dbmirror2', 'mbevents') AND c.relkind IN ('r', 'p', 'v', 'm', 'f');

-- name: columns
SELECT a.attname FROM pg_attribute a
WHERE a.attrelid = to_regclass(%(table)s) AND a.attnum > 0 AND NOT a.attisdropped;

-- name: functions
SELECT n.nspname || '.' || p.proname, md5(pg_get_functiondef(p.oid))
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname IN ('dbmirror2', 'mbevents') AND p.prokind = 'f';

-- name: triggers
-- Ours, dbmirror2's, and those by which a mirror is known.
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), t.tgname, fn.nspname || '.' || p.proname,
       t.tgenabled::text, t.tgtype::integer
FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace fn ON fn.oid = p.pronamespace
WHERE NOT t.tgisinternal AND t.tgparentid = 0
  AND (fn.nspname IN ('dbmirror2', 'mbevents') OR p.proname = 'sanitize_dbmirror2_editor_data'
       OR (n.nspname = 'musicbrainz' AND t.tgname LIKE '%%\_mirror'))
ORDER BY 1, 2;

-- name: schema_sequence
SELECT current_schema_sequence FROM musicbrainz.replication_control ORDER BY id LIMIT 1;

-- name: installed
SELECT version FROM mbevents.installed;

-- name: objects
SELECT kind, name, made, found FROM mbevents.installed_object;

-- name: record
INSERT INTO mbevents.installed_object (kind, name, made, found)
SELECT kind, name, made, (
    SELECT md5(pg_get_functiondef(p.oid)) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE kind = 'function' AND n.nspname || '.' || p.proname = name AND p.prokind = 'f')
FROM unnest(%(kinds)s::text[], %(names)s::text[], %(digests)s::text[]) AS given (kind, name, made)
ON CONFLICT (kind, name) DO UPDATE SET made = excluded.made, found = excluded.found;

-- name: claim
-- Released with the transaction: two installations must not look at the same facts.
SELECT pg_try_advisory_xact_lock(%(key)s);

-- name: leader
-- The session of the bridge that leads. PostgreSQL shows the halves of the lock's key.
SELECT pid FROM pg_locks
WHERE locktype = 'advisory' AND granted AND classid = %(high)s::bigint::oid AND objid = %(low)s::bigint::oid
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database());

-- name: in_the_way
-- Sessions that hold locks on these tables (as quoted names), those that have for longest first; those that only read
-- are in the way of nothing but ACCESS EXCLUSIVE.
SELECT a.pid, a.usename, coalesce(a.state, 'unknown'), extract(epoch FROM clock_timestamp() - a.xact_start)::float8,
       min(l.relation::regclass::text)
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (%(readers)s OR l.mode NOT IN ('AccessShareLock', 'RowShareLock'))
  AND l.relation = ANY (SELECT to_regclass(name) FROM unnest(%(tables)s::text[]) AS given (name))
GROUP BY 1, 2, 3, 4
ORDER BY 4 DESC NULLS LAST LIMIT 3;

-- name: unread_pending
SELECT count(*) FROM dbmirror2.pending_data;

-- name: unread_outbox
SELECT count(*) FROM mbevents.outbox;

-- name: open_tasks
SELECT count(*) FROM mbevents.task WHERE state = 'queued';

-- name: dead_letters
SELECT count(*) FROM mbevents.dead_letter;

-- name: dependants
-- Views outside of our schema that would go with it.
SELECT DISTINCT quote_ident(n.nspname) || '.' || quote_ident(v.relname)
FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
JOIN pg_class v ON v.oid = r.ev_class JOIN pg_namespace n ON n.oid = v.relnamespace
JOIN pg_class c ON c.oid = d.refobjid
WHERE d.refclassid = 'pg_class'::regclass AND c.relnamespace = to_regnamespace('mbevents')
  AND v.relnamespace <> to_regnamespace('mbevents')
ORDER BY 1;
