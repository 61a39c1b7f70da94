-- What a program without tasklog would do: check one revision, append the same bytes, write the same row, add it to its
-- index. KEYS: stream, index. ARGV: MessagePack of commands {row key, revision expected or '', entry id, instant, bytes,
-- row key in the index, field, value, ...}.
local commands = cmsgpack.unpack(ARGV[1])
for i = 1, #commands do
  local command = commands[i]
  if (redis.call('HGET', command[1], '_rev') or '') ~= command[2] then
    return redis.error_reply('STALE ' .. command[1])
  end
  redis.call('XADD', KEYS[1], command[3], 't', command[4], 'c', command[5])
  redis.call('HSET', command[1], unpack(command, 7))
  redis.call('SADD', KEYS[2], command[6])
end
return #commands
