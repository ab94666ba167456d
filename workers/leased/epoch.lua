-- Common to the scripts that need it: the store's epoch, false when there is none that stands; and now, in milliseconds.
-- KEYS: clock, …
-- It ends with the server's history: when that was started again, or is the master after it was a replica, it may lack
-- the last invalidations. And it ends when the server's clock was set back behind the last lease or invalidation: what
-- Redis forgets by that clock would go in another order than it came, a tag before a lease that is older. A correction
-- by less than a second is no matter: tags are kept for minutes longer than leases.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or '?'
local epoch, clock_number, of, at = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'number', 'history', 'at'))
if of ~= history or now < tonumber(at or 0) - 1000 then
    epoch = false
end

-- Something was leased or invalidated now.
local function note_time()
    redis.call('HSET', KEYS[1], 'at', string.format('%.0f', now))
end

