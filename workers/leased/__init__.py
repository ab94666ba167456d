"""A cache that is never older than the last invalidation: leased entries with tags, read through by one caller.

What the caches of entities, searches and statistics and the answers of other servers are kept in.
"""
