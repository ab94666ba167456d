-- Puts messages at the end of a queue, each once: an id that is queued or in progress stays as it is.
-- KEYS: queue, its messages, names of all queues. ARGV: queue name, wake channel, then id and data by turns.
local fresh = {}
for i = 3, #ARGV, 2 do
    if redis.call('HSETNX', KEYS[2], ARGV[i], ARGV[i + 1]) == 1 then
        fresh[#fresh + 1] = ARGV[i]
    end
end
if #fresh > 0 then
    redis.call('RPUSH', KEYS[1], unpack(fresh))
    redis.call('SADD', KEYS[3], ARGV[1])
    redis.call('PUBLISH', ARGV[2], ARGV[1])
end
return #fresh
