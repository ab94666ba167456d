-- Moves a message that this worker holds to the dead ones, with its error.
-- KEYS: held by this worker, messages, deaths, started, dead, dead messages, errors. ARGV: id, error.
if redis.call('SREM', KEYS[1], ARGV[1]) == 0 then
    return 0
end
local data = redis.call('HGET', KEYS[2], ARGV[1])
if data then
    local time = redis.call('TIME')
    redis.call('ZADD', KEYS[5], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
    redis.call('HSET', KEYS[6], ARGV[1], data)
    redis.call('HSET', KEYS[7], ARGV[1], ARGV[2])
    redis.call('HDEL', KEYS[2], ARGV[1])
end
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('SREM', KEYS[4], ARGV[1])
return 1
