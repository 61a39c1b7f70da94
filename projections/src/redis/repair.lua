-- Brings entities to what the log says of them, each only if it is still as it was looked at. KEYS: head.
-- ARGV: MessagePack of {guards, types, commands} for each entity.
--   guard: {hash, field, value} or {hash, field} for a field that was not there
--   type:  {key, type it must have if it is there}
--   command: a Redis command, or {'HDELIF', hash, field, value}
-- Writers learn from the head's field `repairs` that what they know of rows counts no more.
-- Answers for each: {0} done, {1, why} a key of a wrong type is in the way, {2} it has moved on.
local function judge(repair)
  for _, guard in ipairs(repair[1]) do
    local found = redis.pcall('HGET', guard[1], guard[2])
    if type(found) == 'table' then
      return { 1, guard[1] .. ': ' .. found.err }
    elseif (found or nil) ~= guard[3] then
      return { 2 }
    end
  end
  for _, expected in ipairs(repair[2]) do
    local found = redis.call('TYPE', expected[1]).ok
    if found ~= 'none' and found ~= expected[2] then
      return { 1, expected[1] .. ' holds a ' .. found .. ', expected a ' .. expected[2] }
    end
  end
  return { 0 }
end

local results = {}
local repaired = false
for i, repair in ipairs(cmsgpack.unpack(ARGV[1])) do
  results[i] = judge(repair)
  if results[i][1] == 0 then
    repaired = true
    for _, command in ipairs(repair[3]) do
      if command[1] ~= 'HDELIF' then
        redis.call(unpack(command))
      elseif redis.call('HGET', command[2], command[3]) == command[4] then
        redis.call('HDEL', command[2], command[3])
      end
    end
  end
end
if repaired then
  redis.call('HINCRBY', KEYS[1], 'repairs', 1)
end
return results
