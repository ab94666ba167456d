-- name: credited_recordings
SELECT recording.gid::text, artist_credit_name.artist
FROM musicbrainz.artist_credit_name
JOIN musicbrainz.recording ON recording.artist_credit = artist_credit_name.artist_credit
WHERE artist_credit_name.artist = ANY (%(ids)s::integer[])
LIMIT %(limit)s;

-- name: credited_release_groups
SELECT release_group.gid::text, artist_credit_name.artist
FROM musicbrainz.artist_credit_name
JOIN musicbrainz.release_group ON release_group.artist_credit = artist_credit_name.artist_credit
WHERE artist_credit_name.artist = ANY (%(ids)s::integer[])
LIMIT %(limit)s;

-- name: credited_releases
SELECT release.gid::text, artist_credit_name.artist
FROM musicbrainz.artist_credit_name
JOIN musicbrainz.release ON release.artist_credit = artist_credit_name.artist_credit
WHERE artist_credit_name.artist = ANY (%(ids)s::integer[])
LIMIT %(limit)s;

-- name: releases_with_credited_tracks
-- Without those that credit it themselves with the same credit: an album would come once for each of its tracks.
SELECT release.gid::text, artist_credit_name.artist
FROM musicbrainz.artist_credit_name
JOIN musicbrainz.track ON track.artist_credit = artist_credit_name.artist_credit
JOIN musicbrainz.medium ON medium.id = track.medium
JOIN musicbrainz.release ON release.id = medium.release AND release.artist_credit <> track.artist_credit
WHERE artist_credit_name.artist = ANY (%(ids)s::integer[])
LIMIT %(limit)s;

-- name: alternative_releases
-- Translated and transliterated releases, and their tracks, hang off the release.
SELECT release.gid::text, artist_credit_name.artist
FROM musicbrainz.artist_credit_name
JOIN musicbrainz.alternative_release ON alternative_release.artist_credit = artist_credit_name.artist_credit
JOIN musicbrainz.release ON release.id = alternative_release.release
WHERE artist_credit_name.artist = ANY (%(ids)s::integer[])
UNION
SELECT release.gid::text, artist_credit_name.artist
FROM musicbrainz.artist_credit_name
JOIN musicbrainz.alternative_track ON alternative_track.artist_credit = artist_credit_name.artist_credit
JOIN musicbrainz.alternative_medium_track ON alternative_medium_track.alternative_track = alternative_track.id
JOIN musicbrainz.alternative_medium ON alternative_medium.id = alternative_medium_track.alternative_medium
JOIN musicbrainz.medium ON medium.id = alternative_medium.medium
JOIN musicbrainz.release ON release.id = medium.release
WHERE artist_credit_name.artist = ANY (%(ids)s::integer[])
LIMIT %(limit)s;

-- name: release_groups_of
SELECT release_group.gid::text, release.id
FROM musicbrainz.release
JOIN musicbrainz.release_group ON release_group.id = release.release_group
WHERE release.id = ANY (%(ids)s::integer[])
LIMIT %(limit)s;

-- name: releases_of
SELECT release.gid::text, release.release_group
FROM musicbrainz.release
WHERE release.release_group = ANY (%(ids)s::integer[])
LIMIT %(limit)s;

-- name: recordings_on
SELECT recording.gid::text, medium.release
FROM musicbrainz.medium
JOIN musicbrainz.track ON track.medium = medium.id
JOIN musicbrainz.recording ON recording.id = track.recording
WHERE medium.release = ANY (%(ids)s::integer[])
LIMIT %(limit)s;

-- name: redirect
-- An old MBID and the one that it leads to.
SELECT NULL, e.gid::text
FROM {redirects} AS redirect
JOIN {table} AS e ON e.id = redirect.new_id
WHERE redirect.gid = %(mbid)s;

-- name: plain
SELECT row_to_json(e)::text, NULL::text FROM {table} AS e WHERE e.gid = %(mbid)s;

-- name: credit
-- A part of the following: what is shown of the artists that an entity credits.
(
    SELECT jsonb_build_object('name', ac.name, 'names', (
        SELECT jsonb_agg(jsonb_build_object(
            'name', acn.name,
            'join_phrase', acn.join_phrase,
            'artist', jsonb_build_object(
                'mbid', a.gid, 'name', a.name, 'sort_name', a.sort_name, 'comment', a.comment
            )
        ) ORDER BY acn.position)
        FROM musicbrainz.artist_credit_name AS acn
        JOIN musicbrainz.artist AS a ON a.id = acn.artist
        WHERE acn.artist_credit = ac.id
    ))
    FROM musicbrainz.artist_credit AS ac
    WHERE ac.id = e.artist_credit
)

-- name: recording
SELECT (
    to_jsonb(e) || jsonb_build_object('artist_credit', {credit}, 'appears_on', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'release', r.gid,
            'medium', jsonb_build_object('position', m.position, 'format', m.format, 'name', m.name),
            'position', t.position,
            'number', t.number
        ) ORDER BY r.gid, m.position, t.position), '[]')
        FROM musicbrainz.track AS t
        JOIN musicbrainz.medium AS m ON m.id = t.medium
        JOIN musicbrainz.release AS r ON r.id = m.release
        WHERE t.recording = e.id
    ))
)::text, NULL::text
FROM {table} AS e
WHERE e.gid = %(mbid)s;

-- name: release
SELECT (
    to_jsonb(e) || jsonb_build_object(
        'artist_credit', {credit},
        'release_group', (SELECT rg.gid FROM musicbrainz.release_group AS rg WHERE rg.id = e.release_group),
        'events', (
            SELECT coalesce(jsonb_agg(to_jsonb(c) - 'release' ORDER BY c.country), '[]')
            FROM (
                SELECT rc.release, rc.country, rc.date_year, rc.date_month, rc.date_day
                FROM musicbrainz.release_country AS rc
                UNION ALL
                SELECT ru.release, NULL, ru.date_year, ru.date_month, ru.date_day
                FROM musicbrainz.release_unknown_country AS ru
            ) AS c
            WHERE c.release = e.id
        ),
        'media', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'position', m.position, 'format', m.format, 'name', m.name, 'tracks', (
                    SELECT coalesce(jsonb_agg(jsonb_build_object(
                        'mbid', t.gid, 'number', t.number, 'name', t.name, 'length', t.length,
                        'recording', rec.gid, 'artist_credit', ac.name
                    ) ORDER BY t.position), '[]')
                    FROM musicbrainz.track AS t
                    JOIN musicbrainz.recording AS rec ON rec.id = t.recording
                    JOIN musicbrainz.artist_credit AS ac ON ac.id = t.artist_credit
                    WHERE t.medium = m.id
                )
            ) ORDER BY m.position), '[]')
            FROM musicbrainz.medium AS m
            WHERE m.release = e.id
        )
    )
)::text, NULL::text
FROM {table} AS e
WHERE e.gid = %(mbid)s;

-- name: release_group
SELECT (
    to_jsonb(e) || jsonb_build_object('artist_credit', {credit}, 'first_release_date', (
        SELECT jsonb_build_object(
            'year', rgm.first_release_date_year,
            'month', rgm.first_release_date_month,
            'day', rgm.first_release_date_day
        )
        FROM musicbrainz.release_group_meta AS rgm
        WHERE rgm.id = e.id
    ))
)::text, NULL::text
FROM {table} AS e
WHERE e.gid = %(mbid)s;
