-- KEYS: stream, head, identity, epochs. ARGV: actor, '1' if there is a reason, reason, instant or '' for the server's clock.
-- Begins the next epoch and answers what was noted of it: a JSON object of strings.
local wrong = wrong_part()
if wrong then
  return wrong
end
local type = redis.call('TYPE', KEYS[4]).ok
if type ~= 'none' and type ~= 'list' then
  return redis.error_reply('WRONGTYPE ' .. KEYS[4] .. ' is a ' .. type .. ', expected a list')
end
local at = redis.call('HMGET', KEYS[2], 'position', 'commit')
local epoch = add(redis.call('HGET', KEYS[3], 'epoch'), 1)
local instant = ARGV[4] ~= '' and ARGV[4] or server_ms()
-- By hand, because an encoded table has no order.
local text = '{"epoch":"' .. epoch .. '","position":"' .. at[1] .. '","commit_id":"' .. at[2] .. '","accepted_at":"'
  .. instant .. '","actor":' .. cjson.encode(ARGV[1])
if ARGV[2] == '1' then
  text = text .. ',"reason":' .. cjson.encode(ARGV[3])
end
text = text .. '}'
redis.call('RPUSH', KEYS[4], text)
redis.call('HSET', KEYS[3], 'epoch', epoch)
return text
