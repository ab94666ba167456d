-- Says that a worker lives, and moves delayed messages that are due to their queues.
-- Returns the milliseconds until the next is due, or -1 when none is delayed.
-- KEYS: what all keys begin with. ARGV: worker, how many to move at most for each queue.
local ns = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Changes nothing; but after a write that needs no memory a script may write although it is full.
redis.call('PERSIST', ns .. '__heartbeats__')
redis.call('ZADD', ns .. '__heartbeats__', now, ARGV[1])
local wait = -1
for _, name in ipairs(redis.call('SMEMBERS', ns .. '__queues__')) do
    local delayed = ns .. name .. '.delayed'
    local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, ARGV[2])
    if #due > 0 then
        redis.call('ZREM', delayed, unpack(due))
        redis.call('RPUSH', ns .. name, unpack(due))
        redis.call('PUBLISH', ns .. 'wake', name)
    end
    local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
    if first[2] then
        local left = math.max(0, first[2] - now)
        wait = wait < 0 and left or math.min(wait, left)
    end
end
return wait
