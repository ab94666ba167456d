-- Names the time since Redis last lost its data: another run, or another mark because the old one is gone.
-- KEYS: mark. ARGV: a new mark.
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') .. '/' .. redis.call('GET', KEYS[1])
