-- Which ids have a message, alive or dead: a 1 or a 0 for each. KEYS: messages, dead messages. ARGV: ids.
local found = {}
for i, id in ipairs(ARGV) do
    found[i] = math.max(redis.call('HEXISTS', KEYS[1], id), redis.call('HEXISTS', KEYS[2], id))
end
return found
