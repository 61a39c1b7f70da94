-- KEYS begin with stream, head, identity. An error to return if one of them is missing or of the wrong type, else nil.
local function wrong_part()
  local expected = { 'stream', 'hash', 'hash' }
  for i = 1, 3 do
    local type = redis.call('TYPE', KEYS[i]).ok
    if type == 'none' then
      return redis.error_reply('LOSTLOG ' .. KEYS[i] .. ' is missing: deleted, evicted, or lost with another server')
    elseif type ~= expected[i] then
      return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is a ' .. type .. ', expected a ' .. expected[i])
    end
  end
  return nil
end
