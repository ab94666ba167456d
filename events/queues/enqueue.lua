-- Puts messages at the end of a queue, or among the delayed; each once: an id that is there already stays as it is.
-- KEYS: queue, its messages, delayed, names of all queues.
-- ARGV: queue name, wake channel, delay in milliseconds or -1, then id and data by turns.
local fresh = {}
for i = 4, #ARGV, 2 do
    if redis.call('HSETNX', KEYS[2], ARGV[i], ARGV[i + 1]) == 1 then
        fresh[#fresh + 1] = ARGV[i]
    end
end
if #fresh == 0 then
    return 0
end
redis.call('SADD', KEYS[4], ARGV[1])
local delay = tonumber(ARGV[3])
if delay >= 0 then
    local time = redis.call('TIME')
    local due = time[1] * 1000 + math.floor(time[2] / 1000) + delay
    for _, id in ipairs(fresh) do
        redis.call('ZADD', KEYS[3], due, id)
    end
else
    redis.call('RPUSH', KEYS[1], unpack(fresh))
    redis.call('PUBLISH', ARGV[2], ARGV[1])
end
return #fresh
