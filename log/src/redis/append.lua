-- KEYS: stream, head, identity, and a key for each answer to keep.
-- ARGV: position and commit of the head to append after, ms to keep answers; then for each entry its last position,
-- recorded_at, commit id, bytes, and the answer to keep or ''.
-- Answers 1, or 0 if the head is another one; then nothing was written.
local wrong = wrong_part()
if wrong then
  return wrong
end
for i = 4, #KEYS do
  local type = redis.call('TYPE', KEYS[i]).ok
  if type ~= 'none' and type ~= 'string' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is a ' .. type .. ', expected a string')
  end
end
local at = redis.call('HMGET', KEYS[2], 'position', 'commit')
if at[1] ~= ARGV[1] or at[2] ~= ARGV[2] then
  return 0
end
local answers = 3
for i = 4, #ARGV, 5 do
  local id, t, c = ARGV[i] .. '-0', ARGV[i + 1], ARGV[i + 3]
  -- The first write of all. What could make it fail has no effect on those after it.
  local added = redis.pcall('XADD', KEYS[1], 'NOMKSTREAM', id, 't', t, 'c', c, 's', seal(id, t, c))
  if type(added) == 'table' and added.err then
    if string.find(added.err, 'ID specified', 1, true) then
      return redis.error_reply('LOSTLOG ' .. KEYS[1] .. ' has entries beyond its head, which is ' .. ARGV[1])
    end
    return added
  end
  if ARGV[i + 4] ~= '' then
    answers = answers + 1
    redis.call('SET', KEYS[answers], ARGV[i + 4], 'PX', ARGV[3])
  end
end
local n = #ARGV
redis.call('HSET', KEYS[2], 'position', ARGV[n - 4], 'commit', ARGV[n - 2], 'recorded_at', ARGV[n - 3])
return 1
