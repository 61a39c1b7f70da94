-- KEYS: stream, head, identity. ARGV: log id and epoch. Goes on in a higher epoch of the same log; answers whether it does.
local wrong = wrong_part()
if wrong then
  return wrong
end
local log = redis.call('HMGET', KEYS[3], 'id', 'epoch')
if log[1] ~= ARGV[1] or less(ARGV[2], log[2]) then
  return 0
end
redis.call('HSET', KEYS[3], 'epoch', ARGV[2])
return 1
