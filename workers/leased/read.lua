-- Reads entries. KEYS: clock, entries. ARGV: prefix of tags.
-- Returns for each entry that is valid itself and its milliseconds to live, else false.
local found = {}
for i = 2, #KEYS do
    found[i - 1] = live(KEYS[i])
end
return found
