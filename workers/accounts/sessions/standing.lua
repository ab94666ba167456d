-- What the scripts of sessions share; each runs between this and `done`.
-- ARGV[1] is the prefix of the clock and of the indexes, one an editor: a sorted set of keys of sessions, by latest end.
-- Time is the server's, in milliseconds, but never goes back: what that was set back by is added to it (`back`). The
-- clock is a key that each script gives a year to live: when it has more, the server's was set back since.
local YEAR = 31536000000
local time = redis.call('TIME')
local clock = ARGV[1] .. 'clock'
local gained = redis.call('PTTL', clock) - YEAR
local back = tonumber(redis.call('GET', clock) or 0) + math.max(gained, 0)
local now = time[1] * 1000 + math.floor(time[2] / 1000) + back

local function index_of(editor)
    return ARGV[1] .. 'editor:' .. editor
end

-- Lua writes large numbers with an exponent.
local function whole(number)
    return string.format('%.0f', number)
end

local function done(answer)
    -- Not sooner: a full Redis refuses a script's first write only, and has to refuse what takes memory.
    if redis.call('PEXPIRE', clock, YEAR) == 0 or gained > 0 then
        redis.call('SET', clock, whole(back), 'PX', YEAR)
    end
    return answer
end

local function drop(key, editor)
    redis.call('DEL', key)
    if editor then
        redis.call('ZREM', index_of(editor), key)
    end
end

-- Until when a session stands if nobody uses it from now on, and that is only looked at. Redis itself removes it later
-- if its clock was set back since.
local function idle_end(key, fields)
    local left, ends = redis.call('PTTL', key), tonumber(fields.ends)
    return left < 0 and ends or math.min(ends, now + left - (back - tonumber(fields.back or 0)))
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
    -- Used when more was `back`: Redis threw the clock away, and nobody knows any more what it was set back by.
    local lost = tonumber(fields.back or 0) > back
    if not ends or lost or now >= ends or now > idle_end(key, fields)
        or (editor and not redis.call('ZSCORE', index_of(editor), key)) then
        drop(key, editor)
        return nil
    end
    return fields, flat
end

-- The same when it is used now.
local function renew(key, fields, idle)
    local idle_ends = math.min(now + idle, tonumber(fields.ends))
    redis.call('PEXPIREAT', key, whole(idle_ends - back))
    if tonumber(fields.back or 0) ~= back then
        redis.call('HSET', key, 'back', whole(back))
    end
    return idle_ends
end

-- A session for others, by the clock that they have: until when it stands if it is idle, and its fields.
local function told(idle_ends, flat)
    for i = 1, #flat, 2 do
        local moment = (flat[i] == 'began' or flat[i] == 'ends') and tonumber(flat[i + 1])
        if moment then
            flat[i + 1] = whole(moment - back)
        end
    end
    return {idle_ends - back, flat}
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
