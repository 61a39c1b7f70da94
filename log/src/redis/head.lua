-- KEYS: stream, head, identity. ARGV: '1' to ask for the stream's last id.
-- Answers position, commit, recorded_at, log id, epoch, the server's clock, the stream's last id.
local wrong = wrong_part()
if wrong then
  return wrong
end
local at = redis.call('HMGET', KEYS[2], 'position', 'commit', 'recorded_at')
local log = redis.call('HMGET', KEYS[3], 'id', 'epoch')
local last = ''
if ARGV[1] == '1' then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      last = info[i + 1]
    end
  end
end
return { at[1], at[2], at[3], log[1], log[2], server_ms(), last }
