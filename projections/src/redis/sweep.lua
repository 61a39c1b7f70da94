-- KEYS: the table's sorted set of row keys. ARGV: an array of {row, field of its death, instant, index, member, member of the
-- sorted set of row keys, set by use or '', member of that}. Answers 1 for each row that is gone, 0 for one that lives on.
local gone = {}
for i, entry in ipairs(cmsgpack.unpack(ARGV[1])) do
  local found = redis.call('HGET', entry[1], entry[2])
  redis.call('ZREM', entry[4], entry[5])
  if found == false or found == entry[3] then
    redis.call('DEL', entry[1])
    redis.call('ZREM', KEYS[1], entry[6])
    if entry[7] ~= '' then
      redis.call('ZREM', entry[7], entry[8])
    end
    gone[i] = 1
  else
    gone[i] = 0
  end
end
return gone
