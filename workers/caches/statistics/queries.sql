-- name: entities
SELECT count(*) AS {name} FROM {table};

-- name: editors
SELECT
    count(*) AS "count.editor",
    count(*) FILTER (WHERE NOT deleted) AS "count.editor.valid",
    count(*) FILTER (WHERE deleted) AS "count.editor.deleted"
FROM musicbrainz.editor;

-- name: activity
WITH edits AS MATERIALIZED (
    SELECT editor, open_time FROM musicbrainz.edit WHERE open_time >= now() - interval '1 week'
), votes AS MATERIALIZED (
    SELECT editor, vote_time FROM musicbrainz.vote WHERE vote_time >= now() - interval '1 week' AND NOT superseded
)
SELECT
    (SELECT count(*) FROM (SELECT editor FROM edits UNION SELECT editor FROM votes) AS e)
        AS "count.editor.activelastweek",
    (SELECT count(DISTINCT editor) FROM edits) AS "count.editor.editlastweek",
    (SELECT count(DISTINCT editor) FROM votes) AS "count.editor.votelastweek",
    (SELECT count(*) FROM edits WHERE open_time >= now() - interval '1 day') AS "count.edit.perday",
    (SELECT count(*) FROM edits) AS "count.edit.perweek",
    (SELECT count(*) FROM votes WHERE vote_time >= now() - interval '1 day') AS "count.vote.perday",
    (SELECT count(*) FROM votes) AS "count.vote.perweek";

-- name: edits
-- What is to be deleted counts as deleted.
SELECT
    count(*) AS "count.edit",
    count(*) FILTER (WHERE status = 1) AS "count.edit.open",
    count(*) FILTER (WHERE status = 2) AS "count.edit.applied",
    count(*) FILTER (WHERE status = 3) AS "count.edit.failedvote",
    count(*) FILTER (WHERE status = 4) AS "count.edit.faileddep",
    count(*) FILTER (WHERE status = 5) AS "count.edit.error",
    count(*) FILTER (WHERE status = 6) AS "count.edit.failedprereq",
    count(*) FILTER (WHERE status = 7) AS "count.edit.novotes",
    count(*) FILTER (WHERE status IN (8, 9)) AS "count.edit.deleted"
FROM musicbrainz.edit;

-- name: votes
-- Without those that the same editor changed since.
SELECT
    count(*) AS "count.vote",
    count(*) FILTER (WHERE vote = 1) AS "count.vote.yes",
    count(*) FILTER (WHERE vote = 0) AS "count.vote.no",
    count(*) FILTER (WHERE vote = -1) AS "count.vote.abstain",
    count(*) FILTER (WHERE vote = 2) AS "count.vote.approve"
FROM musicbrainz.vote WHERE NOT superseded;

-- name: notes
SELECT count(*) AS "count.editnote" FROM musicbrainz.edit_note;

-- name: artwork
SELECT
    (SELECT count(*) FROM cover_art_archive.cover_art) AS "count.coverart",
    (SELECT count(DISTINCT release) FROM cover_art_archive.cover_art) AS "count.release.has_caa",
    (SELECT count(*) FROM event_art_archive.event_art) AS "count.eventart",
    (SELECT count(DISTINCT event) FROM event_art_archive.event_art) AS "count.event.has_eaa";

-- name: packets
-- Numbers of packets, which are no counts: where the database is, and the newest that left or came.
SELECT
    (SELECT current_replication_sequence FROM musicbrainz.replication_control ORDER BY id LIMIT 1)
        AS "replication.sequence",
    (SELECT max(sequence) FROM mbevents.packet WHERE state = 'published') AS "replication.exported",
    (SELECT max(to_sequence) FROM mbevents.sync_run WHERE packets > 0) AS "replication.applied";
