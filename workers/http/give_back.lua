-- A call has ended: its token begins to come back, and its place is free.
-- KEYS: state, leases. ARGV: lease, time for a token, time that nobody is to ask (0: none); in microseconds.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local state = redis.call('HMGET', KEYS[1], 'full', 'hold')
local full = math.max(tonumber(state[1] or 0), now)
local hold = tonumber(state[2] or 0)
if redis.call('ZREM', KEYS[2], ARGV[1]) == 1 then
    full = full + tonumber(ARGV[2])
end
if tonumber(ARGV[3]) > 0 then
    hold = math.max(hold, now + tonumber(ARGV[3]))
end
redis.call('HSET', KEYS[1], 'full', string.format('%.0f', full), 'hold', string.format('%.0f', hold))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', (math.max(full, hold) - now) / 1000 + 1000))
return 0
