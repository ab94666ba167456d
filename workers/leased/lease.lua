-- Reads an entry, or takes the lease of one that is missing or is to be loaded anew; who gets neither must wait.
-- KEYS: clock, entry, lease. ARGV: prefix of tags, token, milliseconds that the lease stands, an epoch that never was,
-- '1' to take the lease although the entry is valid.
-- Returns whether the lease was taken, the epoch, the clock's number and the entry, if it is valid.
if not epoch then
    epoch, clock_number = ARGV[4], '0'
    redis.call('HSET', KEYS[1], 'epoch', epoch, 'number', clock_number, 'history', history)
end
local entry = live(KEYS[2])
local taken = 0
-- One of an earlier epoch stores nothing any more, and by a clock that was set back it would stand for long. The caller's
-- own was taken by this command, which is repeated when its answer was lost.
local holder, of = string.match(redis.call('GET', KEYS[3]) or '', '^(%S+) %S+ (%S+)$')
local held = of == epoch and holder ~= ARGV[2]
if not held and (not entry or ARGV[5] == '1') then
    redis.call('SET', KEYS[3], ARGV[2] .. ' ' .. evictions() .. ' ' .. epoch, 'PX', ARGV[3])
    note_time()
    taken = 1
end
return {taken, epoch, clock_number, entry}
