"""The backbone: what an event is, how it is derived, and the log, ledger, channels and queues that carry it."""
