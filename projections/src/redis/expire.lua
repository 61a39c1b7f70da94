-- ARGV: MessagePack array of {row, field of its death, instant, key that ends then}. A key gets its end only if the row still
-- has the instant that was read. Answers how many did.
local set = 0
for _, one in ipairs(cmsgpack.unpack(ARGV[1])) do
  if redis.call('HGET', one[1], one[2]) == one[3] then
    set = set + redis.call('PEXPIREAT', one[4], one[3])
  end
end
return set
