-- What there is of an entry, for people. Changes nothing.
-- KEYS: clock, entry, lease. ARGV: prefix of tags.
-- Returns the epoch and the clock's number; the entry and its milliseconds to live, those of the lease, and the numbers
-- of the entry's tags.
local entry = redis.call('GET', KEYS[2])
local numbers = {}
local tags = string.match(string.match(entry or '', '^[^\n]*'), '^%x+ %d+ %d+ %d+ %d+(.*)$')
for tag in string.gmatch(tags or '', '%S+') do
    numbers[#numbers + 1] = redis.call('GET', ARGV[1] .. tag)
end
return {epoch, clock_number, entry, redis.call('PTTL', KEYS[2]), redis.call('PTTL', KEYS[3]), numbers}
