-- How many messages wait, are due or are held by this worker, in one moment.
-- KEYS: what all keys begin with. ARGV: worker, queue names.
local ns = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count = 0
for i = 2, #ARGV do
    count = count + redis.call('LLEN', ns .. ARGV[i])
        + redis.call('SCARD', ns .. '__acks__.' .. ARGV[1] .. '.' .. ARGV[i])
        + redis.call('ZCOUNT', ns .. ARGV[i] .. '.delayed', '-inf', now)
end
return count
