-- Opens a session, in the place of another one if there is one: with what that held, unless it was another editor's.
-- KEYS: the new session, the old one (may be left out).
-- ARGV: …, editor ('' is nobody), ms that it lasts, ms that it may be idle, most sessions of an editor, fields by turns.
-- Returns until when it stands if it is idle, and its fields.
local editor, lasts, idle, most = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local ends = now + lasts
local fields = {'began', whole(now), 'ends', whole(ends)}
if editor ~= '' then
    fields[#fields + 1] = 'editor'
    fields[#fields + 1] = editor
end
for i = 6, #ARGV do
    fields[#fields + 1] = ARGV[i]
end

local old = KEYS[2] and standing(KEYS[2])
if old and (not old.editor or old.editor == editor) then
    for name, value in pairs(old) do
        if string.sub(name, 1, 5) == 'data:' then
            fields[#fields + 1] = name
            fields[#fields + 1] = value
        end
    end
end

-- The first to be written: when memory is full this is refused, and all else with it.
redis.call('HSET', KEYS[1], unpack(fields))
local idle_ends = renew(KEYS[1], {ends = ends}, idle)
if old then
    drop(KEYS[2], old.editor)
end
if editor ~= '' then
    local index = index_of(editor)
    redis.call('ZREM', index, KEYS[1])
    for _, each in ipairs(redis.call('ZRANGE', index, 0, -1)) do
        if redis.call('EXISTS', each) == 0 then
            redis.call('ZREM', index, each)
        end
    end
    local over = redis.call('ZCARD', index) - most + 1
    if over > 0 then
        redis.call('DEL', unpack(redis.call('ZRANGE', index, 0, over - 1)))
        redis.call('ZREMRANGEBYRANK', index, 0, over - 1)
    end
    redis.call('ZADD', index, whole(ends), KEYS[1])
    -- Not before any session that is in it.
    local last = redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')[2]
    redis.call('PEXPIREAT', index, whole(last - back))
end
return told(idle_ends, redis.call('HGETALL', KEYS[1]))
