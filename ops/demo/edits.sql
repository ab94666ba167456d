-- What MusicBrainz Server does in the database for each kind of edit.

-- name: vocabulary
-- The sample has only the vocabulary that its own rows need.
INSERT INTO musicbrainz.link_type (
    id, gid, entity_type0, entity_type1, name, description, link_phrase, reverse_link_phrase, long_link_phrase
) VALUES (
    352, '689870a4-a1e4-4912-b17f-7b2664215698', 'artist', 'url', 'wikidata',
    'Points to the Wikidata page for this artist.', 'Wikidata', 'Wikidata page for', 'has a Wikidata page at'
) ON CONFLICT DO NOTHING;

-- name: enlarge
-- The sample has 41 recordings: these make a bulk change one.
INSERT INTO musicbrainz.recording (gid, name, artist_credit, length)
SELECT md5('mbevents demo ' || n)::uuid, 'Étude No. ' || n, credit.artist_credit, 180000 + n
FROM generate_series(1, %(recordings)s) AS n, (
    SELECT artist_credit FROM musicbrainz.artist_credit_name WHERE artist = %(artist)s ORDER BY artist_credit LIMIT 1
) AS credit;

-- name: artist
SELECT id, gid::text, name FROM musicbrainz.artist WHERE gid = %(mbid)s;

-- name: shows
-- What shows an artist's name: recordings, releases (also by their tracks) and release groups that credit it.
WITH credits AS (SELECT artist_credit FROM musicbrainz.artist_credit_name WHERE artist = %(artist)s)
SELECT 'recording', gid::text FROM musicbrainz.recording WHERE artist_credit IN (SELECT artist_credit FROM credits)
UNION
SELECT 'release_group', gid::text FROM musicbrainz.release_group
WHERE artist_credit IN (SELECT artist_credit FROM credits)
UNION
SELECT 'release', release.gid::text
FROM musicbrainz.release
JOIN musicbrainz.medium ON medium.release = release.id
JOIN musicbrainz.track ON track.medium = medium.id
WHERE release.artist_credit IN (SELECT artist_credit FROM credits)
    OR track.artist_credit IN (SELECT artist_credit FROM credits)
ORDER BY 1, 2;

-- name: recordings
SELECT recording.gid::text FROM musicbrainz.recording
JOIN musicbrainz.artist_credit_name USING (artist_credit)
WHERE artist_credit_name.artist = %(artist)s AND recording.name LIKE 'Étude No. %%'
ORDER BY recording.id;

-- name: register
INSERT INTO musicbrainz.editor (name, email, email_confirm_date, password, ha1)
VALUES (%(name)s::text, lower(%(name)s::text) || '@editors.example', now(), '{CLEARTEXT}', md5(%(name)s::text))
RETURNING id;

-- name: open_edit
-- With `applied` it is an auto-edit: closed as soon as it is entered.
INSERT INTO musicbrainz.edit (editor, type, status, autoedit, close_time, expire_time)
VALUES (
    %(editor)s, %(type)s, CASE WHEN %(applied)s::boolean THEN 2 ELSE 1 END, CASE WHEN %(applied)s::boolean THEN 1 ELSE 0 END,
    CASE WHEN %(applied)s::boolean THEN now() END, now() + interval '7 days'
)
RETURNING id;

-- name: edit_data
INSERT INTO musicbrainz.edit_data (edit, data) VALUES (%(edit)s, %(data)s);

-- name: edit_artist
INSERT INTO musicbrainz.edit_artist (edit, artist, status)
SELECT id, %(artist)s, status FROM musicbrainz.edit WHERE id = %(edit)s;

-- name: pend_artist
UPDATE musicbrainz.artist SET edits_pending = edits_pending + %(by)s WHERE id = %(artist)s;

-- name: vote
INSERT INTO musicbrainz.vote (editor, edit, vote) VALUES (%(editor)s, %(edit)s, %(vote)s);

-- name: note
INSERT INTO musicbrainz.edit_note (editor, edit, text) VALUES (%(editor)s, %(edit)s, %(text)s);

-- name: close_edit
UPDATE musicbrainz.edit SET status = 2, close_time = now() WHERE id = %(edit)s;

-- name: close_edit_artist
UPDATE musicbrainz.edit_artist SET status = 2 WHERE edit = %(edit)s;

-- name: rename_artist
UPDATE musicbrainz.artist SET name = %(name)s, sort_name = %(sort_name)s WHERE id = %(artist)s;

-- name: disambiguate_artist
UPDATE musicbrainz.artist SET comment = %(comment)s WHERE id = %(artist)s;

-- name: credits
SELECT artist_credit.id, artist_credit.name, artist_credit.ref_count
FROM musicbrainz.artist_credit JOIN musicbrainz.artist_credit_name ON artist_credit = artist_credit.id
WHERE artist = %(artist)s;

-- name: new_credit
INSERT INTO musicbrainz.artist_credit (name, artist_count, ref_count, gid)
VALUES (%(name)s, 1, %(references)s, gen_random_uuid())
RETURNING id;

-- name: new_credit_name
INSERT INTO musicbrainz.artist_credit_name (artist_credit, position, artist, name)
VALUES (%(credit)s, 0, %(artist)s, %(name)s);

-- name: swap_credit_of_recordings
UPDATE musicbrainz.recording SET artist_credit = %(new)s WHERE artist_credit = %(old)s;

-- name: swap_credit_of_tracks
UPDATE musicbrainz.track SET artist_credit = %(new)s WHERE artist_credit = %(old)s;

-- name: delete_credit_names
DELETE FROM musicbrainz.artist_credit_name WHERE artist_credit = %(old)s;

-- name: delete_credit
DELETE FROM musicbrainz.artist_credit WHERE id = %(old)s;

-- name: redirect_artist
INSERT INTO musicbrainz.artist_gid_redirect (gid, new_id)
SELECT gid, %(into)s FROM musicbrainz.artist WHERE id = %(artist)s;

-- name: delete_artist
DELETE FROM musicbrainz.artist WHERE id = %(artist)s;

-- name: new_url
INSERT INTO musicbrainz.url (gid, url) VALUES (gen_random_uuid(), %(url)s) RETURNING id, gid::text;

-- name: new_link
INSERT INTO musicbrainz.link (link_type)
SELECT id FROM musicbrainz.link_type WHERE gid = '689870a4-a1e4-4912-b17f-7b2664215698'
RETURNING id;

-- name: link_artist
INSERT INTO musicbrainz.l_artist_url (link, entity0, entity1) VALUES (%(link)s, %(artist)s, %(url)s);

-- name: correct_titles
-- Each recording by an edit of its own, all in one transaction.
WITH corrected AS (
    UPDATE musicbrainz.recording SET name = replace(name, 'No.', '№') WHERE gid = ANY (%(mbids)s::uuid[])
    RETURNING id, name
), edits AS (
    INSERT INTO musicbrainz.edit (editor, type, status, autoedit, close_time, expire_time)
    SELECT %(editor)s, 72, 2, 1, now(), now() FROM corrected
    RETURNING id
), matched AS (
    SELECT edit.id AS edit, corrected.id AS recording, corrected.name
    FROM (SELECT id, row_number() OVER () AS n FROM edits) AS edit
    JOIN (SELECT id, name, row_number() OVER () AS n FROM corrected) AS corrected USING (n)
), data AS (
    INSERT INTO musicbrainz.edit_data (edit, data)
    SELECT edit, jsonb_build_object('entity_id', recording, 'new', jsonb_build_object('name', name)) FROM matched
)
INSERT INTO musicbrainz.edit_recording (edit, recording) SELECT edit, recording FROM matched
RETURNING edit;

-- name: captured
-- What capture wrote of the transaction that asks.
SELECT (SELECT count(*) FROM dbmirror2.pending_data WHERE xid = txid_current())
    + (SELECT count(*) FROM mbevents.outbox WHERE xid = txid_current());

-- name: tasks
-- Of the work that came after a task: how many there are, and how many are done.
SELECT count(*), count(*) FILTER (WHERE state = 'done'), coalesce(max(id), %(after)s)
FROM mbevents.task WHERE id > %(after)s;

-- name: newest_task
SELECT coalesce(max(id), 0) FROM mbevents.task;

-- name: task_ids
SELECT id FROM mbevents.task WHERE id > %(after)s;

-- name: waiting_workers
-- Workers that wait for a lock, in the middle of an actor.
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'mbevents worker' AND wait_event_type = 'Lock' AND datname = current_database();

-- name: log_of
-- The log from a position on: how many events, of how many different ids, and the last position.
SELECT count(*), count(DISTINCT id), coalesce(max(position), %(after)s) FROM mbevents.event WHERE position > %(after)s;

-- name: types_of
SELECT type, count(*) FROM mbevents.event WHERE position > %(after)s GROUP BY type ORDER BY type;

-- name: ids_of
SELECT id FROM mbevents.event WHERE position > %(after)s;

-- name: leftovers
-- Work that is not done, and dead letters.
SELECT (SELECT count(*) FROM mbevents.task WHERE state <> 'done'), (SELECT count(*) FROM mbevents.dead_letter);

-- name: packet_changes
SELECT changes FROM mbevents.packet WHERE sequence = %(sequence)s;
