-- Reads an entry, or takes the lease of one that is missing or is to be loaded anew; who gets neither must wait.
-- KEYS: clock, entry, lease. ARGV: prefix of tags, token, milliseconds that the lease stands, an epoch that never was,
-- '1' to take the lease although the entry is valid.
-- Returns whether the lease was taken, the epoch, the clock's number and the entry, if it is valid.
if not epoch then
    epoch = ARGV[4]
    redis.call('HSET', KEYS[1], 'epoch', epoch, 'number', 0)
end
local entry = live(KEYS[2])
local taken = 0
if (not entry or ARGV[5] == '1') and redis.call('EXISTS', KEYS[3]) == 0 then
    redis.call('SET', KEYS[3], ARGV[2] .. ' ' .. evictions(), 'PX', ARGV[3])
    taken = 1
end
return {taken, epoch, redis.call('HGET', KEYS[1], 'number'), entry}
