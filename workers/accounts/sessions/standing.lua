-- What the scripts of sessions share; each is sent with this before it. Time is the server's, in milliseconds.
-- ARGV[1] is the prefix of the indexes, one an editor: a sorted set of keys of sessions, by their latest end.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function index_of(editor)
    return ARGV[1] .. editor
end

-- Lua writes large numbers with an exponent.
local function whole(number)
    return string.format('%.0f', number)
end

local function drop(key, editor)
    redis.call('DEL', key)
    if editor then
        redis.call('ZREM', index_of(editor), key)
    end
end

-- The fields of a session, or nil. An editor's session is one as long as the index has it: so whatever takes the index
-- away, be it eviction, ends the sessions that could not be found any more.
local function standing(key)
    local flat = redis.call('HGETALL', key)
    if #flat == 0 then
        return nil
    end
    local fields = {}
    for i = 1, #flat, 2 do
        fields[flat[i]] = flat[i + 1]
    end
    local editor, ends = fields.editor, tonumber(fields.ends)
    if not ends or now >= ends or (editor and not redis.call('ZSCORE', index_of(editor), key)) then
        drop(key, editor)
        return nil
    end
    return fields, flat
end

-- Until when a session stands if nobody uses it from now on.
local function renew(key, ends, idle)
    local idle_ends = math.min(now + idle, ends)
    redis.call('PEXPIREAT', key, whole(idle_ends))
    return idle_ends
end

-- The same, looked at only.
local function idle_end(key, ends)
    local left = redis.call('PTTL', key)
    return left < 0 and ends or now + left
end

-- Sessions that an index has; how many stood. Without the index none of them does, whoever is about to use it.
local function end_all(index)
    local ended = 0
    for _, key in ipairs(redis.call('ZRANGE', index, 0, -1)) do
        ended = ended + redis.call('DEL', key)
    end
    redis.call('DEL', index)
    return ended
end
