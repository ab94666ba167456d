-- Ends all sessions of an editor. KEYS: the index. Returns how many stood.
return end_all(KEYS[1])
