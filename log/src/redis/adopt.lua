-- KEYS: stream, head, identity. ARGV: log id and epoch to take over. Answers 0 if the log is not empty.
local wrong = wrong_part()
if wrong then
  return wrong
end
if redis.call('HGET', KEYS[2], 'position') ~= '0' then
  return 0
end
redis.call('HSET', KEYS[3], 'id', ARGV[1], 'epoch', ARGV[2])
return 1
