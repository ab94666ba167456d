-- Publishes many events at the price of one command. ARGV: channel, events.
-- Changes nothing; but a replica refuses a write, and one that was the master tells nobody who listens at the new one.
redis.call('PERSIST', ARGV[1])
for i = 2, #ARGV do
    redis.call('PUBLISH', ARGV[1], ARGV[i])
end
