-- Stores an entry if the lease still stands and the entity type is of the same generation; gives the lease back.
-- KEYS: entry, lease, generation. ARGV: token, generation, entry ('' only gives the lease back), milliseconds to live.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
    return 0
end
local stored = 0
if ARGV[3] ~= '' and redis.call('GET', KEYS[3]) == ARGV[2] then
    -- First: a script that has written is not stopped when memory is full.
    redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
    stored = 1
end
redis.call('DEL', KEYS[2])
return stored
