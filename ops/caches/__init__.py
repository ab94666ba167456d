"""The caches as an operator sees them: why an entry is as it is, and what there is in all."""
