-- The sessions of an editor, looked at. KEYS: the index.
-- Returns for each that stands until when it does if it is idle, and its fields.
local found = {}
for _, key in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    local fields, flat = standing(key)
    if fields then
        found[#found + 1] = told(idle_end(key, fields), flat)
    end
end
return found
