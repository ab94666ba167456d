-- Ends a session, or all of its editor's. KEYS: the session. ARGV: …, '1' for all.
-- Returns how many ended: 0 if this one did not stand.
local fields = standing(KEYS[1])
if not fields then
    return 0
end
if ARGV[2] ~= '1' or not fields.editor then
    drop(KEYS[1], fields.editor)
    return 1
end
return end_all(index_of(fields.editor))
