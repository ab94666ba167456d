-- Writes data of a session that stands: names that are not given stay as they are, an empty value takes its name away.
-- KEYS: the session. ARGV: …, most bytes of data, names and values by turns.
-- Returns 1, or 0 if there is no such session, or -1 if it would hold too much.
local fields = standing(KEYS[1])
if not fields then
    return 0
end
local set, gone = {}, {}
for i = 3, #ARGV, 2 do
    local name, value = ARGV[i], ARGV[i + 1]
    if value == '' then
        fields[name] = nil
        gone[#gone + 1] = name
    else
        fields[name] = value
        set[#set + 1] = name
        set[#set + 1] = value
    end
end
local bytes = 0
for name, value in pairs(fields) do
    if string.sub(name, 1, 5) == 'data:' then
        bytes = bytes + #name + #value
    end
end
if bytes > tonumber(ARGV[2]) then
    return -1
end
-- First what may be refused when memory is full.
if #set > 0 then
    redis.call('HSET', KEYS[1], unpack(set))
end
if #gone > 0 then
    redis.call('HDEL', KEYS[1], unpack(gone))
end
return 1
