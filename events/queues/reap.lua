-- Returns what dead workers held to the head of the queues, and buries what keeps killing its workers.
-- A death counts for a message when it is the first (nobody knows which of those held had been started), and after that
-- only when the message had been started: what merely waited beside a killer in the same worker is innocent.
-- Returns how many workers were dead, messages returned and buried, and dead messages that are in Redis now.
-- KEYS: what all keys begin with. ARGV: milliseconds without a heartbeat that make a worker dead, deaths that are forgiven.
local ns = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local forgiven = tonumber(ARGV[2])
local names = redis.call('SMEMBERS', ns .. '__queues__')
local workers = redis.call('ZRANGEBYSCORE', ns .. '__heartbeats__', '-inf', now - ARGV[1], 'LIMIT', 0, 10)
local returned, buried, dead = 0, 0, 0
-- As in pulse.lua: also when memory is full.
redis.call('PERSIST', ns .. '__heartbeats__')

local function release(worker, name)
    local held = ns .. '__acks__.' .. worker .. '.' .. name
    local started = ns .. '__started__.' .. worker .. '.' .. name
    local messages, all_deaths = ns .. name .. '.msgs', ns .. name .. '.deaths'
    local before = returned
    for _, id in ipairs(redis.call('SMEMBERS', held)) do
        local data = redis.call('HGET', messages, id)
        if data then
            local deaths = tonumber(redis.call('HGET', all_deaths, id) or '0')
            if deaths == 0 or redis.call('SISMEMBER', started, id) == 1 then
                deaths = redis.call('HINCRBY', all_deaths, id, 1)
            end
            if deaths > forgiven then
                redis.call('ZADD', ns .. name .. '.XQ', now, id)
                redis.call('HSET', ns .. name .. '.XQ.msgs', id, data)
                redis.call('HSET', ns .. name .. '.XQ.errors', id,
                    'its worker died ' .. deaths .. ' times while working on it')
                redis.call('HDEL', messages, id)
                redis.call('HDEL', all_deaths, id)
                buried = buried + 1
            else
                redis.call('LPUSH', ns .. name, id)
                returned = returned + 1
            end
        end
    end
    redis.call('DEL', held, started)
    if returned > before then
        redis.call('PUBLISH', ns .. 'wake', name)
    end
end

for _, worker in ipairs(workers) do
    for _, name in ipairs(names) do
        release(worker, name)
    end
    redis.call('ZREM', ns .. '__heartbeats__', worker)
end
for _, name in ipairs(names) do
    dead = dead + redis.call('ZCARD', ns .. name .. '.XQ')
end
return {#workers, returned, buried, dead}
