-- Reads a session, and renews it unless it is only looked at. KEYS: the session. ARGV: …, ms it may be idle, or ''.
-- Returns until when it stands if it is idle, and its fields; nothing if there is none.
local fields, flat = standing(KEYS[1])
if not fields then
    return false
end
local ends = tonumber(fields.ends)
if ARGV[2] ~= '' then
    return {renew(KEYS[1], ends, tonumber(ARGV[2])), flat}
end
return {idle_end(KEYS[1], ends), flat}
