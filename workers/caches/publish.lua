-- Publishes many events at the price of one command. ARGV: channel, events.
for i = 2, #ARGV do
    redis.call('PUBLISH', ARGV[1], ARGV[i])
end
