-- Stores an entry if the lease still stands and nothing that it depends on was invalidated since; gives the lease back.
-- KEYS: clock, entry, lease. ARGV: prefix of tags, token, epoch, the clock's number at the lease, entry ('' only gives
-- the lease back), milliseconds to live, tags. Returns 1 if it was stored.
local token, evicted = string.match(redis.call('GET', KEYS[3]) or '', '^(%S+) (%S+) ')
if token ~= ARGV[2] then
    return 0
end
local as_of = tonumber(ARGV[4])
local good = ARGV[5] ~= '' and epoch == ARGV[3]
local numbers, unsure = {}, false
for i = 7, #ARGV do
    local number = good and tonumber(redis.call('GET', ARGV[1] .. ARGV[i]) or nil)
    -- Ahead of the clock it is of an earlier one, which was lost or ended with its epoch: nothing valid has it.
    if number and number > tonumber(clock_number) then
        number = nil
    end
    numbers[i] = number
    if number and number > as_of then
        good = false
    end
    unsure = unsure or (good and not number and tonumber(clock_number) ~= as_of)
end
if good and unsure and evicted ~= evictions() then
    -- A tag that is not there may have been invalidated since the lease, and then thrown away. The next load finds it.
    good = false
    for i = 7, #ARGV do
        if not numbers[i] then
            redis.pcall('SET', ARGV[1] .. ARGV[i], clock_number, 'PX', 2 * ARGV[6])
        end
    end
end
-- The first thing written: when memory is full, it is refused, and nothing else is done.
if good and redis.pcall('SET', KEYS[2], ARGV[5], 'PX', ARGV[6]).err then
    good = false
end
if good then
    for i = 7, #ARGV do
        local tag = ARGV[1] .. ARGV[i]
        -- A tag outlives all entries that have it: when it is not there, they are not valid.
        if not numbers[i] then
            redis.call('SET', tag, ARGV[4], 'PX', 2 * ARGV[6])
        elseif redis.call('PTTL', tag) < tonumber(ARGV[6]) then
            redis.call('PEXPIRE', tag, 2 * ARGV[6])
        end
    end
end
redis.call('DEL', KEYS[3])
return good and 1 or 0
