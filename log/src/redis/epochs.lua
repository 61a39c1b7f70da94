-- KEYS: epochs. ARGV: how many at most. Answers the newest, oldest first: epoch, position, commit, instant, actor, and the
-- reason if there is one.
local noted = {}
for i, text in ipairs(redis.call('LRANGE', KEYS[1], '-' .. ARGV[1], -1)) do
  local one = cjson.decode(text)
  noted[i] = { one.epoch, one.position, one.commit_id, one.accepted_at, one.actor, one.reason }
end
return noted
