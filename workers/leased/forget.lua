-- Deletes entries with their leases, in one step: between the two an old one could be stored. Invalidates tags.
-- KEYS: clock, then entry and lease by turns. ARGV: prefix of tags, milliseconds that a tag is kept, tags.
-- Returns for each entry 1 if it was there, else 0. Works when memory is full: after a DEL a script may write.
local there = {}
for i = 2, #KEYS, 2 do
    there[#there + 1] = redis.call('DEL', KEYS[i])
    redis.call('DEL', KEYS[i + 1])
end
if not epoch then
    -- Nothing is valid. Nor may it be again when a clock that was set back is set forward.
    redis.call('DEL', KEYS[1])
    return there
end
for i = 3, #ARGV do
    local tag = ARGV[1] .. ARGV[i]
    redis.call('DEL', tag)
    redis.call('SET', tag, redis.call('HINCRBY', KEYS[1], 'number', 1), 'PX', ARGV[2])
end
if #ARGV > 2 then
    note_time()
end
return there
