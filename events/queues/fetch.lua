-- Hands messages to a worker, as id, data and count of deaths by turns, and notes that it holds them.
-- The LPOP comes first: after a write that needs no memory a script may write although it is full, and only work makes
-- room then.
-- The worker's heartbeat goes with it: after a FLUSHALL nobody would know whose messages these are.
-- KEYS: queue, its messages, held by this worker, deaths, heartbeats, names of all queues.
-- ARGV: how many, worker, queue name.
local ids = redis.call('LPOP', KEYS[1], ARGV[1])
local time = redis.call('TIME')
redis.call('ZADD', KEYS[5], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[2])
if not ids or #ids == 0 then
    return {}
end
redis.call('SADD', KEYS[3], unpack(ids))
redis.call('SADD', KEYS[6], ARGV[3])
local data = redis.call('HMGET', KEYS[2], unpack(ids))
local deaths = redis.call('HMGET', KEYS[4], unpack(ids))
local found = {}
for i, id in ipairs(ids) do
    if data[i] then
        found[#found + 1] = id
        found[#found + 1] = data[i]
        found[#found + 1] = deaths[i] or '0'
    else
        redis.call('SREM', KEYS[3], id)
    end
end
return found
