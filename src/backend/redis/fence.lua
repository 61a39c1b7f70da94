-- Was this call of this writer carried out? If it was not, it never will be. KEYS: head. ARGV: writer id, sequence number.
local field = 'w:' .. ARGV[1]
local done = redis.call('HGET', KEYS[1], field)
if done and not less(string.match(done, '^%d+'), ARGV[2]) then
  return 1
end
redis.call('HSET', KEYS[1], field, ARGV[2] .. ' ' .. server_ms())
return 0
