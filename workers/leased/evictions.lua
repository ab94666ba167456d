-- Common to the scripts that lease and store: how many keys Redis has thrown away in its life.
local function evictions()
    return string.match(redis.call('INFO', 'stats'), 'evicted_keys:(%d+)') or '?'
end

