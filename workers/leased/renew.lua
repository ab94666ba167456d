-- Its holder lives: the lease stands on. KEYS: lease. ARGV: token, milliseconds. Returns 1 if it stood.
if string.match(redis.call('GET', KEYS[1]) or '', '^%S+') ~= ARGV[1] then
    return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
