-- name: mbids
-- Of one entity type; rows that are gone are left out.
SELECT id, gid::text FROM {table} WHERE id = ANY (%(ids)s::bigint[]);

-- name: owners
-- What parts lead to: the columns come from the entity map.
SELECT id, {columns} FROM {table} WHERE id = ANY (%(ids)s::bigint[]);

-- name: urls
SELECT id, gid::text, url FROM musicbrainz.url WHERE id = ANY (%(ids)s::bigint[]);

-- name: has_capture
SELECT to_regclass('dbmirror2.pending_data') IS NOT NULL;

-- name: deleted
-- The last row of each; without an index, so it is asked only for what is found nowhere else.
SELECT DISTINCT ON (wanted.tablename, wanted.id) wanted.tablename, wanted.id, pending.olddata
FROM unnest(%(tables)s::text[], %(ids)s::bigint[]) AS wanted (tablename, id)
JOIN dbmirror2.pending_data AS pending
    ON pending.tablename = wanted.tablename AND (pending.olddata ->> 'id')::bigint = wanted.id
WHERE pending.op = 'd'
ORDER BY wanted.tablename, wanted.id, pending.seqid DESC;

-- name: foreign_keys
-- Of all tables, by names as capture writes them; for the generator of the entity map.
SELECT quote_ident(own.nspname) || '.' || quote_ident(origin.relname), attname::text,
       quote_ident(other.nspname) || '.' || quote_ident(target.relname)
FROM pg_constraint
JOIN pg_class AS origin ON origin.oid = conrelid
JOIN pg_namespace AS own ON own.oid = origin.relnamespace
JOIN pg_class AS target ON target.oid = confrelid
JOIN pg_namespace AS other ON other.oid = target.relnamespace
JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)
WHERE contype = 'f' AND cardinality(conkey) = 1;
