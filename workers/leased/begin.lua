-- On a new connection: what a server that we did not know has of entries may be older than the last invalidations.
-- KEYS: clock. ARGV: the id of the server's run.
if redis.call('HGET', KEYS[1], 'server') ~= ARGV[1] then
    -- A new epoch begins with the next lease. After a DEL a script may write although memory is full.
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], 'server', ARGV[1])
end
