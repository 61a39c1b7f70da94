-- KEYS: tree, tree_at. ARGV: the checkpoint that the caller has seen and the new one, five fields each (empty: none);
-- bytes to keep; bytes to add. Answers 1, or 0 if the checkpoint is another one.
local names = {'log_id', 'epoch', 'position', 'commit', 'recorded_at'}
local at = redis.call('HMGET', KEYS[2], unpack(names))
local length = redis.call('STRLEN', KEYS[1])
-- What has lost hashes counts as nothing kept.
if length < math.floor((tonumber(at[3]) or 0) / 256) * 32 then at = {} end
for i = 1, 5 do
  if (at[i] or '') ~= ARGV[i] then return 0 end
end
local keep = tonumber(ARGV[11])
local fields = {}
for i = 1, 5 do
  fields[#fields + 1] = names[i]
  fields[#fields + 1] = ARGV[5 + i]
end
redis.call('HSET', KEYS[2], unpack(fields))
if keep == 0 then
  redis.call('DEL', KEYS[1])
elseif length > keep then
  redis.call('SET', KEYS[1], redis.call('GETRANGE', KEYS[1], 0, keep - 1))
end
if #ARGV[12] > 0 then redis.call('APPEND', KEYS[1], ARGV[12]) end
return 1
