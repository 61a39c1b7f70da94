-- Forgets writers whose last call was long ago. KEYS: head. ARGV: this writer or '', how long in ms.
local fields = redis.call('HGETALL', KEYS[1])
local now = tonumber(server_ms())
for i = 1, #fields, 2 do
  local at = string.match(fields[i + 1], '^%d+ (%d+)$')
  if string.sub(fields[i], 1, 2) == 'w:' and (fields[i] == 'w:' .. ARGV[1] or not at or now - tonumber(at) > tonumber(ARGV[2])) then
    redis.call('HDEL', KEYS[1], fields[i])
  end
end
return 0
