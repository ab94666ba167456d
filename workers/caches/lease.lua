-- Reads an entry, or takes the lease of an entry that is missing; who gets neither must wait.
-- An entity type without a generation gets a new one that never was: what is stored under another is void.
-- KEYS: entry, lease, generation. ARGV: token, milliseconds that the lease stands, a generation that never was.
-- Returns the generation, the entry (if it is of this generation) and whether the lease was taken.
local generation = redis.call('GET', KEYS[3])
if not generation then
    generation = ARGV[3]
    redis.call('SET', KEYS[3], generation)
end
local entry = redis.call('GET', KEYS[1])
local prefix = '{"generation":"' .. generation .. '",'
if entry and string.sub(entry, 1, #prefix) == prefix then
    return {generation, entry, 0}
end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
    return {generation, false, 1}
end
return {generation, false, 0}
