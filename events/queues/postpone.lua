-- Puts a message that this worker holds among the delayed ones, with new data, in one step: it is never there twice,
-- and never nowhere. Also what nobody has (Redis lost its data meanwhile); not what another worker was given.
-- KEYS: held by this worker, messages, deaths, started, delayed, names of all queues.
-- ARGV: queue name, id, data, delay in milliseconds.
if redis.call('SREM', KEYS[1], ARGV[2]) == 0 and redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then
    return 0
end
local time = redis.call('TIME')
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('ZADD', KEYS[5], time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[4], ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[2])
redis.call('SREM', KEYS[4], ARGV[2])
redis.call('SADD', KEYS[6], ARGV[1])
return 1
