-- A turn: a token of the bucket and a place among those in flight, or how long to wait for one.
-- A token is spent from now on, and begins to come back when its call ends: the server, which sees the request
-- somewhere between the two, never sees more than the bucket allows, however long the way there takes.
-- KEYS: state (full: when the bucket will be, hold: nobody before that), leases. All times in microseconds.
-- ARGV: lease, its length, time for a token (0: no rate), tokens of a full bucket, places, longest hold and lease.
-- Returns 0 (go) or the time to wait; -1 when that depends on who is in flight.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst, places = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local state = redis.call('HMGET', KEYS[1], 'full', 'hold')
-- Bounded, so that a clock that is set back does not leave everybody waiting.
local full = math.min(math.max(tonumber(state[1] or 0), now), now + burst * interval)
local hold = math.min(tonumber(state[2] or 0), now + tonumber(ARGV[6]))

-- Asked again after a connection broke: it was given already.
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then
    return 0
end

-- Calls that never ended, for their process did.
local lost = redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
-- None is given for longer: the clock was set back, and it may have been given just now.
local longest = string.format('%.0f', now + tonumber(ARGV[7]))
for _, lease in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. longest, '+inf')) do
    redis.call('ZADD', KEYS[2], longest, lease)
end
if lost > 0 and interval > 0 then
    full = full + lost * interval
    redis.call('HSET', KEYS[1], 'full', string.format('%.0f', full))
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', (math.max(full, hold) - now) / 1000 + 1000))
end

if hold > now then
    return hold - now
end
local flying = redis.call('ZCARD', KEYS[2])
if flying >= places or (interval > 0 and flying >= burst) then
    return -1
end
local wait = full - (burst - 1 - flying) * interval - now
if interval > 0 and wait > 0 then
    return wait
end
redis.call('ZADD', KEYS[2], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
-- When it ends is to be seen.
redis.call('PEXPIRE', KEYS[2], string.format('%.0f', 2 * tonumber(ARGV[7]) / 1000))
return 0
