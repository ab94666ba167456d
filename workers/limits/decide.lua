-- Decides whether something may be done in all of some scopes, and counts it in all of them or in none.
-- KEYS: of each scope a sorted set of what was done within its window, by the server's time in microseconds.
-- ARGV: a member that nobody else has (two in one microsecond are two); of each scope its limit and its window in us.
-- Answer: now; number of the scope that is told of; what remains of it; us to wait (0: allowed); when it is whole again.
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
-- Never `..` with a number: that writes 14 digits, and there are 16.
local text = string.format('%.0f', now)
local told, wait, remaining, reset = 1, 0, math.huge, 0

local function score(key, index)
    return tonumber(call('ZRANGE', key, index, index, 'WITHSCORES')[2])
end

for i, key in ipairs(KEYS) do
    local limit, window = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
    -- First of all a write, which a replica refuses: one that was the master does not know what was done since.
    -- A full Redis refuses a script's first write only if it takes memory: this gives some, so that it goes on.
    call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now - window))
    local count = call('ZCARD', key)
    local newest = count > 0 and score(key, -1) or 0
    if newest > now then
        -- The clock was set back. What was done was done before now: it counts until a window from now, and no longer.
        for _, member in ipairs(call('ZRANGEBYSCORE', key, '(' .. text, '+inf')) do
            call('ZADD', key, text, member)
        end
        newest = now
    end
    local left = count >= limit and score(key, -limit) + window - now or 0
    if left > wait then
        told, wait, remaining, reset = i, left, 0, newest + window
    elseif wait == 0 and limit - count - 1 < remaining then
        told, remaining, reset = i, limit - count - 1, now + window
    end
end
if wait == 0 then
    for i, key in ipairs(KEYS) do
        call('ZADD', key, text, ARGV[1])
        call('PEXPIRE', key, math.ceil(ARGV[2 * i + 1] / 1000) + 1000)
    end
end
return {now, told, remaining, wait, reset}
