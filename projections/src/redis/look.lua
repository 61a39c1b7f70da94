-- Looks at many places and at the head in one moment. KEYS: head. ARGV: MessagePack of reading commands.
-- Answers position, recorded_at, the server's clock, and what each command answers; {'!', error} for one that fails.
local head = redis.call('HMGET', KEYS[1], 'position', 'recorded_at')
local answers = {}
for i, command in ipairs(cmsgpack.unpack(ARGV[1])) do
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then
    answer = { '!', answer.err }
  end
  answers[i] = answer
end
return { head[1] or '', head[2] or '0', server_ms(), answers }
