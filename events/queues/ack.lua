-- Forgets a message that is done, if this worker still holds it.
-- KEYS: held by this worker, messages, deaths, started. ARGV: id.
if redis.call('SREM', KEYS[1], ARGV[1]) == 1 then
    redis.call('HDEL', KEYS[2], ARGV[1])
    redis.call('HDEL', KEYS[3], ARGV[1])
    redis.call('SREM', KEYS[4], ARGV[1])
    return 1
end
return 0
