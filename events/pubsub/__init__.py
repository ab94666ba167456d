"""Following the events: the log by position, with Redis channels that say when to look."""
