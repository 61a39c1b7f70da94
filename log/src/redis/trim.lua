-- KEYS: stream, head, identity. ARGV: log id, epoch, the first position to keep.
-- Removes the entries of commits that end before it, never the last one. Answers how many.
local wrong = wrong_part()
if wrong then
  return wrong
end
local log = redis.call('HMGET', KEYS[3], 'id', 'epoch')
if log[1] ~= ARGV[1] or log[2] ~= ARGV[2] then
  return -1
end
local keep, last = ARGV[3], redis.call('HGET', KEYS[2], 'position')
if less(last, keep) then
  keep = last
end
return redis.call('XTRIM', KEYS[1], 'MINID', '=', keep .. '-0')
