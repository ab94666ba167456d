-- Which tasks have a message: a 1 or a 0 for each. One script, because a message on its way from the delayed queue to
-- its queue must be seen in one of them. KEYS: hashes of messages. ARGV: highest retry, then the tasks' ids.
local found = {}
for i = 2, #ARGV do
    found[i - 1] = 0
    for retry = 0, tonumber(ARGV[1]) do
        for _, messages in ipairs(KEYS) do
            if redis.call('HEXISTS', messages, ARGV[i] .. ':' .. retry) == 1 then
                found[i - 1] = 1
                break
            end
        end
        if found[i - 1] == 1 then
            break
        end
    end
end
return found
