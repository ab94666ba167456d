-- Reads entries. KEYS: clock, entries. ARGV: prefix of tags.
-- Returns for each entry that is valid itself and its milliseconds to live, else false.
-- Changes nothing; but a replica refuses a write, and one that was the master may not know what was forgotten since.
redis.call('PERSIST', KEYS[1])
local found = {}
for i = 2, #KEYS do
    found[i - 1] = live(KEYS[i])
end
return found
