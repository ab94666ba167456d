-- A call goes on: its lease stands on. Returns 1 if it stood.
-- KEYS: leases. ARGV: lease, its length, longest lease; in microseconds.
-- Removed and added again: after a removal a script may write although memory is full.
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
    return 0
end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%.0f', time[1] * 1000000 + time[2] + tonumber(ARGV[2])), ARGV[1])
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', 2 * tonumber(ARGV[3]) / 1000))
return 1
