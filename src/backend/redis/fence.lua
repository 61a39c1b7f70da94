-- Was this call of this writer carried out? If it was not, it never will be. KEYS: writer. ARGV: sequence number.
local done = redis.call('GET', KEYS[1])
if done and not less(done, ARGV[1]) then
  return 1
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', 3600000)
return 0
