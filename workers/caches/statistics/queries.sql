-- name: entities
SELECT count(*) AS {name} FROM {table};

-- name: editors
SELECT
    count(*) AS "count.editor",
    count(*) FILTER (WHERE NOT deleted) AS "count.editor.valid",
    count(*) FILTER (WHERE deleted) AS "count.editor.deleted"
FROM musicbrainz.editor;

-- name: activity
-- Edits of the last week, but for those of FreeDB (2) and of ModBot (4); and who made or voted on edits that are newer
-- than the newest from before it, but for FreeDB. BETWEEN and not >, as PostgreSQL would expect a third of all rows.
WITH bounds AS MATERIALIZED (
    SELECT
        coalesce((
            SELECT id FROM musicbrainz.edit WHERE open_time <= now() - interval '7 days' ORDER BY id DESC LIMIT 1
        ), 0) + 1 AS first,
        (SELECT max(id) FROM musicbrainz.edit) AS last
), editors AS MATERIALIZED (
    SELECT DISTINCT editor FROM musicbrainz.edit
    WHERE id BETWEEN (SELECT first FROM bounds) AND (SELECT last FROM bounds) AND editor <> 2
), voters AS MATERIALIZED (
    SELECT DISTINCT editor FROM musicbrainz.vote
    WHERE edit BETWEEN (SELECT first FROM bounds) AND (SELECT last FROM bounds) AND editor <> 2
), edits AS MATERIALIZED (
    SELECT open_time FROM musicbrainz.edit WHERE open_time >= now() - interval '7 days' AND editor NOT IN (2, 4)
)
SELECT
    (SELECT count(*) FROM (SELECT editor FROM editors UNION SELECT editor FROM voters) AS e)
        AS "count.editor.activelastweek",
    (SELECT count(*) FROM editors) AS "count.editor.editlastweek",
    (SELECT count(*) FROM voters) AS "count.editor.votelastweek",
    (SELECT count(*) FROM edits WHERE open_time >= now() - interval '1 day') AS "count.edit.perday",
    (SELECT count(*) FROM edits) AS "count.edit.perweek";

-- name: edits
-- Nearly all are applied (2); the others have an index. To count by status as all are read takes twice as long.
WITH every AS MATERIALIZED (
    SELECT count(*) AS number FROM musicbrainz.edit
), others AS MATERIALIZED (
    SELECT status, count(*) AS number FROM musicbrainz.edit WHERE status <> 2 GROUP BY status
), found (status, number) AS (
    SELECT status, number FROM others
    UNION ALL
    SELECT 2, (SELECT number FROM every) - (SELECT coalesce(sum(number), 0) FROM others)
)
SELECT
    (SELECT number FROM every) AS "count.edit",
    coalesce(sum(number) FILTER (WHERE status = 1), 0)::bigint AS "count.edit.open",
    coalesce(sum(number) FILTER (WHERE status = 2), 0)::bigint AS "count.edit.applied",
    coalesce(sum(number) FILTER (WHERE status = 3), 0)::bigint AS "count.edit.failedvote",
    coalesce(sum(number) FILTER (WHERE status = 4), 0)::bigint AS "count.edit.faileddep",
    coalesce(sum(number) FILTER (WHERE status = 5), 0)::bigint AS "count.edit.error",
    coalesce(sum(number) FILTER (WHERE status = 6), 0)::bigint AS "count.edit.failedprereq",
    coalesce(sum(number) FILTER (WHERE status = 7), 0)::bigint AS "count.edit.novotes",
    coalesce(sum(number) FILTER (WHERE status = 9), 0)::bigint AS "count.edit.deleted"
FROM found;

-- name: votes
-- Also those that the same editor changed since; by day and week without abstentions.
SELECT
    count(*) AS "count.vote",
    count(*) FILTER (WHERE vote = 1) AS "count.vote.yes",
    count(*) FILTER (WHERE vote = 0) AS "count.vote.no",
    count(*) FILTER (WHERE vote = -1) AS "count.vote.abstain",
    count(*) FILTER (WHERE vote = 2) AS "count.vote.approve",
    count(*) FILTER (WHERE vote <> -1 AND vote_time >= now() - interval '1 day') AS "count.vote.perday",
    count(*) FILTER (WHERE vote <> -1 AND vote_time >= now() - interval '7 days') AS "count.vote.perweek"
FROM musicbrainz.vote;

-- name: notes
SELECT count(*) AS "count.editnote" FROM musicbrainz.edit_note;

-- name: coverart
SELECT count(*) AS "count.coverart", count(DISTINCT release) AS "count.release.has_caa"
FROM cover_art_archive.cover_art;

-- name: eventart
SELECT count(*) AS "count.eventart", count(DISTINCT event) AS "count.event.has_eaa"
FROM event_art_archive.event_art;

-- name: packets
-- Numbers of packets, which are no counts: where the database is, and the newest that left or came.
SELECT
    (SELECT current_replication_sequence FROM musicbrainz.replication_control ORDER BY id LIMIT 1)
        AS "replication.sequence",
    (SELECT max(sequence) FROM mbevents.packet WHERE state = 'published') AS "replication.exported",
    (SELECT max(to_sequence) FROM mbevents.sync_run WHERE packets > 0) AS "replication.applied";
