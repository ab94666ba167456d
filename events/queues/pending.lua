-- What is queued, delayed and held by this worker, in one moment. KEYS: namespace. ARGV: worker, queue names.
local ns = KEYS[1] .. ':'
local counts = {}
for i = 2, #ARGV do
    local held = ns .. '__acks__.' .. ARGV[1] .. '.' .. ARGV[i]
    counts[#counts + 1] = redis.call('LLEN', ns .. ARGV[i]) + redis.call('SCARD', held)
    counts[#counts + 1] = redis.call('LLEN', ns .. ARGV[i] .. '.DQ')
    counts[#counts + 1] = redis.call('SCARD', held .. '.DQ')
end
return counts
