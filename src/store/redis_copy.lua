-- One page of a copy: entries, the rows that follow from them, and the head, or nothing of it.
-- KEYS: stream, head, identity. ARGV: MessagePack of {log id, epoch, position and commit of the head before, entries,
-- commands}; an entry is {its last position, instant, bytes, commit id}. Positions and instants are decimal strings.
-- Answers {0}, {1, what is in the way}, or {2, position, commit} of a head that is another one.
local id, epoch, position, commit, entries, ops = unpack(cmsgpack.unpack(ARGV[1]))
local head = redis.call('HMGET', KEYS[2], 'position', 'commit')
local log = redis.call('HMGET', KEYS[3], 'id', 'epoch')
if head[1] ~= position or head[2] ~= commit or log[1] ~= id or log[2] ~= epoch then
  return {'2', head[1] or '', head[2] or ''}
end
local wrong = wrong_type(ops, {})
if wrong then
  return {'1', wrong}
end
for i = 1, #entries do
  local entry = entries[i][1] .. '-0'
  local t, bytes = entries[i][2], entries[i][3]
  -- The first write of all. What could make it fail has no effect on those after it.
  local added = redis.pcall('XADD', KEYS[1], 'NOMKSTREAM', entry, 't', t, 'c', bytes, 's', seal(entry, t, bytes))
  if not added then
    return redis.error_reply('LOSTLOG ' .. KEYS[1] .. ' is missing, its head stood at ' .. position)
  elseif type(added) == 'table' and added.err then
    if string.find(added.err, 'ID specified', 1, true) then
      return redis.error_reply('LOSTLOG ' .. KEYS[1] .. ' has entries beyond its head, which is ' .. position)
    end
    return added
  end
end
run(ops, '0')
local last = entries[#entries]
redis.call('HSET', KEYS[2], 'position', last[1], 'commit', last[4], 'recorded_at', last[2])
return {'0'}
