-- Reads a session, and renews it unless it is only looked at. KEYS: the session. ARGV: …, ms it may be idle, or ''.
-- Returns until when it stands if it is idle, and its fields; nothing if there is none.
local fields, flat = standing(KEYS[1])
if not fields then
    return false
end
if ARGV[2] ~= '' then
    return told(renew(KEYS[1], fields, tonumber(ARGV[2])), flat)
end
return told(idle_end(KEYS[1], fields), flat)
