-- Common to the scripts that read: whether an entry is valid, and how long Redis keeps it.
-- Tags that were looked at once are remembered for the length of a script.
local tag_prefix = ARGV[1]
local numbers = {}

local function tag_number(tag)
    local number = numbers[tag]
    if number == nil then
        -- A tag that is gone (evicted) is like one that was invalidated just now.
        number = tonumber(redis.call('GET', tag_prefix .. tag) or 'inf') or math.huge
        numbers[tag] = number
    end
    return number
end

local function live(key)
    local entry = epoch and redis.call('GET', key)
    if not entry then
        return false
    end
    local stop = string.find(entry, '\n', 1, true)
    local of, as_of, tags = string.match(string.sub(entry, 1, (stop or 1) - 1), '^(%x+) (%d+) %d+ %d+ %d+(.*)$')
    if of ~= epoch then
        return false
    end
    local number = tonumber(as_of)
    for tag in string.gmatch(tags, '%S+') do
        if tag_number(tag) > number then
            return false
        end
    end
    return {entry, redis.call('PTTL', key)}
end
