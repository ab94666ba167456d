-- Gives back messages that this worker holds and did not start, to the head of the queue and in their order.
-- KEYS: queue, its messages, held by this worker. ARGV: queue name, wake channel, ids.
local given = 0
for i = #ARGV, 3, -1 do
    if redis.call('SREM', KEYS[3], ARGV[i]) == 1 and redis.call('HEXISTS', KEYS[2], ARGV[i]) == 1 then
        redis.call('LPUSH', KEYS[1], ARGV[i])
        given = given + 1
    end
end
if given > 0 then
    redis.call('PUBLISH', ARGV[2], ARGV[1])
end
return given
