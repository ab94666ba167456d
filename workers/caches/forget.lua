-- Deletes entries with their leases, in one step: between the two an old row could be stored.
-- KEYS: entry and lease by turns. Returns for each entry 1 if it was there, else 0.
local there = {}
for i = 1, #KEYS, 2 do
    there[#there + 1] = redis.call('DEL', KEYS[i])
    redis.call('DEL', KEYS[i + 1])
end
return there
