-- KEYS: stream, head, identity. ARGV: new log id, 'server' or 'given', given instant.
-- Answers id and epoch of the log that is there now.
local expected = { 'stream', 'hash', 'hash' }
local found = 0
for i, key in ipairs(KEYS) do
  local type = redis.call('TYPE', key).ok
  if type == expected[i] then
    found = found + 1
  elseif type ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. type .. ', expected a ' .. expected[i])
  end
end
if found == 0 then
  local born_at = ARGV[2] == 'server' and server_ms() or ARGV[3]
  -- An empty stream, so that every append may insist on one.
  redis.call('XGROUP', 'CREATE', KEYS[1], 'birth', '0', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', KEYS[1], 'birth')
  redis.call('HSET', KEYS[2], 'position', '0', 'commit', '00000000-0000-0000-0000-000000000000', 'recorded_at', '0')
  redis.call('HSET', KEYS[3], 'id', ARGV[1], 'epoch', '1', 'born_at', born_at, 'time', ARGV[2])
elseif found < 3 then
  for _, key in ipairs(KEYS) do
    if redis.call('EXISTS', key) == 0 then
      return redis.error_reply('LOSTLOG ' .. key .. ' is missing, other keys of the log are there')
    end
  end
end
return redis.call('HMGET', KEYS[3], 'id', 'epoch')
