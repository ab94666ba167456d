-- name: unaccented
-- Types whose names and aliases have an index without accents: what it finds is looked at again, until there are enough.
(
    SELECT e.id, 0 AS turn FROM {table} AS e
    WHERE lower(musicbrainz.musicbrainz_unaccent(e.name)) = lower(musicbrainz.musicbrainz_unaccent(%(name)s))
      AND musicbrainz.mb_lower(e.name) = musicbrainz.mb_lower(%(name)s)
    LIMIT %(limit)s
)
UNION ALL
SELECT alias.{owner}, 1
FROM {aliases} AS alias
WHERE lower(musicbrainz.musicbrainz_unaccent(alias.name)) = lower(musicbrainz.musicbrainz_unaccent(%(name)s))
  AND musicbrainz.mb_lower(alias.name) = musicbrainz.mb_lower(%(name)s);

-- name: spelt
-- Types whose names have an index as they are spelt; all their spellings are looked up, until there are enough.
(
    SELECT e.id, 0 AS turn FROM {table} AS e
    WHERE e.name = ANY (%(spellings)s) AND musicbrainz.mb_lower(e.name) = musicbrainz.mb_lower(%(name)s)
    LIMIT %(limit)s
)
UNION ALL
SELECT alias.{owner}, 1
FROM {aliases} AS alias
WHERE musicbrainz.mb_simple_tsvector(alias.name)
    @@ plainto_tsquery('musicbrainz.mb_simple', musicbrainz.mb_lower(%(name)s))
  AND musicbrainz.mb_lower(alias.name) = musicbrainz.mb_lower(%(name)s);

-- name: words
-- Added where there are too many spellings: of all that have the words of the name, those that have no others.
UNION ALL
(
    SELECT e.id, 0 FROM {table} AS e
    WHERE musicbrainz.mb_simple_tsvector(e.name)
        @@ plainto_tsquery('musicbrainz.mb_simple', musicbrainz.mb_lower(%(name)s))
      AND musicbrainz.mb_lower(e.name) = musicbrainz.mb_lower(%(name)s)
    LIMIT %(limit)s
);

-- name: few
-- Instruments and genres are some thousands: nobody needs an index.
SELECT e.id, 0 AS turn
FROM {table} AS e
WHERE musicbrainz.mb_lower(e.name) = musicbrainz.mb_lower(%(name)s)
UNION ALL
SELECT alias.{owner}, 1
FROM {aliases} AS alias
WHERE musicbrainz.mb_lower(alias.name) = musicbrainz.mb_lower(%(name)s);

-- name: url
-- The name of a URL is the URL, in which case matters.
SELECT e.id, 0 AS turn FROM {table} AS e WHERE e.url = %(name)s;

-- name: shown
SELECT e.gid::text, {name}, {comment}, {credit}, min(hit.turn)
FROM ({hits}) AS hit
JOIN {table} AS e ON e.id = hit.id
GROUP BY e.id
ORDER BY min(hit.turn), e.id
LIMIT %(limit)s;

-- name: credit
-- A part of it.
(SELECT credit.name FROM musicbrainz.artist_credit AS credit WHERE credit.id = e.artist_credit)
