-- name: create_token
INSERT INTO mbevents.feed_token (name, sha256) VALUES (%(name)s, %(sha256)s) ON CONFLICT (name) DO NOTHING
RETURNING name, created_at;

-- name: list_tokens
SELECT name, created_at FROM mbevents.feed_token ORDER BY name;

-- name: token_hashes
SELECT name, sha256 FROM mbevents.feed_token;

-- name: revoke_token
DELETE FROM mbevents.feed_token WHERE name = %(name)s;
