-- name: may_sign_in
-- %(spammer)s is the bit of that privilege.
SELECT NOT deleted AND coalesce(privs, 0) & %(spammer)s = 0 FROM musicbrainz.editor WHERE id = %(editor_id)s;
