-- Forgets that a worker lives, unless it still holds messages: those are for the reaper, which finds them by its heartbeat.
-- KEYS: what all keys begin with. ARGV: worker.
local ns = KEYS[1]
for _, name in ipairs(redis.call('SMEMBERS', ns .. '__queues__')) do
    if redis.call('EXISTS', ns .. '__acks__.' .. ARGV[1] .. '.' .. name) == 1 then
        return 0
    end
end
return redis.call('ZREM', ns .. '__heartbeats__', ARGV[1])
