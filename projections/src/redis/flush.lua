-- KEYS: head, identity. ARGV: packed commands, the log's id and epoch, then the checkpoint before (position, commit, instant) and
-- after, or empty texts.
local ops = cmsgpack.unpack(ARGV[1])
if ARGV[3] ~= '' then
  local at = redis.call('HMGET', KEYS[1], 'position', 'commit')
  local log = redis.call('HMGET', KEYS[2], 'id', 'epoch')
  if at[1] ~= ARGV[3] or at[2] ~= ARGV[4] or (log[1] or '') .. ' ' .. (log[2] or '') ~= ARGV[2] then
    return {2, ''}
  end
end
local wrong = wrong_type(ops, {})
if wrong then
  return {1, wrong}
end
run(ops, counted('0'), 0)
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[1], 'position', ARGV[6], 'commit', ARGV[7], 'recorded_at', ARGV[8])
end
return {0, ''}
