//! One script per step. Each looks at the types of its keys before it writes, takes the time from the server, and does a
//! bounded amount of work. Numbers stay below 2^53, where a Lua number is exact.

use redis::Script;

/// `now`: ms since the Unix epoch. `whole(n)`: an integer as text, never in exponents.
const COMMON: &str = "
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local function whole(n) return string.format('%.0f', n) end
";

/// KEYS counter; ARGV window. A counter without expiry, whoever left it, gets one.
const HIT: &str = "
local function hit(key, window)
  local count = redis.call('INCR', key)
  local left = redis.call('PTTL', key)
  if left < 0 then
    redis.call('PEXPIRE', key, window)
    left = tonumber(window)
  end
  return count, left
end
";

const HIT_ONLY: &str = "
local count, left = hit(KEYS[1], ARGV[1])
return {count, left}
";

/// KEYS counter, failures; ARGV window. Answers blocked, count or end, ms left.
const LOGIN_ATTEMPT: &str = "
local blocked_until = tonumber(redis.call('HGET', KEYS[2], 'next_allowed_at') or '0')
if now < blocked_until then return {1, blocked_until, blocked_until - now} end
local count, left = hit(KEYS[1], ARGV[1])
return {0, count, left}
";

/// KEYS failures; ARGV threshold, first block, longest block, kept, doublings.
const LOGIN_FAILED: &str = "
local count = redis.call('HINCRBY', KEYS[1], 'failed_count', 1)
local threshold = tonumber(ARGV[1])
local block, next_allowed_at = 0, 0
if count >= threshold then
  block = math.min(tonumber(ARGV[2]) * 2 ^ math.min(count - threshold, tonumber(ARGV[5])), tonumber(ARGV[3]))
  next_allowed_at = now + block
end
redis.call('HSET', KEYS[1], 'next_allowed_at', whole(next_allowed_at))
redis.call('PEXPIREAT', KEYS[1], whole(now + block + tonumber(ARGV[4])))
return {count, next_allowed_at}
";

/// KEYS list, byte count. A list without its count is damage that nobody can repair with bounded work.
const CDC: &str = "
local held = redis.call('LLEN', KEYS[1])
local bytes = tonumber(redis.call('GET', KEYS[2]) or '')
if held == 0 then bytes = 0 end
if not bytes then
  return redis.error_reply('CORRUPT ' .. KEYS[1] .. ' holds changes, but ' .. KEYS[2] .. ' is not their byte count: delete both')
end
local function save()
  if bytes == 0 and redis.call('LLEN', KEYS[1]) == 0 then
    redis.call('DEL', KEYS[2])
  else
    redis.call('SET', KEYS[2], whole(bytes))
  end
end
";

/// ARGV change, bound, drops in one step. Answers stored, dropped, bytes, more.
const CDC_PUSH: &str = "
local size, bound, drops_max = #ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if size > bound then return {0, 1, bytes, 0} end
local dropped = 0
while bytes + size > bound and dropped < drops_max do
  local change = redis.call('LPOP', KEYS[1])
  if not change then bytes = 0 break end
  bytes = bytes - #change
  dropped = dropped + 1
end
local stored = 0
if bytes + size <= bound then
  redis.call('RPUSH', KEYS[1], ARGV[1])
  bytes = bytes + size
  stored = 1
end
save()
return {stored, dropped, bytes, 1 - stored}
";

/// ARGV changes, bytes. Answers held, bytes, and tokens and changes by turns.
const CDC_FRONT: &str = "
local out, total = {}, 0
for at = 0, math.min(tonumber(ARGV[1]), held) - 1 do
  local change = redis.call('LINDEX', KEYS[1], at)
  total = total + #change
  if at > 0 and total > tonumber(ARGV[2]) then break end
  out[#out + 1] = redis.sha1hex(change)
  out[#out + 1] = change
end
return {held, bytes, out}
";

/// ARGV tokens. Answers how many were removed.
const CDC_ACK: &str = "
local removed = 0
for _, token in ipairs(ARGV) do
  local change = redis.call('LINDEX', KEYS[1], 0)
  if not change then break end
  if redis.sha1hex(change) == token then
    redis.call('LPOP', KEYS[1])
    bytes = bytes - #change
    removed = removed + 1
  end
end
if removed > 0 then save() end
return removed
";

/// KEYS record, beacons. Answers now, the record, a generation or -1 for each beacon.
const KEY_STATE: &str = "
local seen = {}
for at = 2, #KEYS do seen[at - 1] = tonumber(redis.call('HGET', KEYS[at], 'generation') or '-1') end
return {now, redis.call('HGETALL', KEYS[1]), seen}
";

/// KEYS record, set of all; every change begins with a look at both.
const KEY_CHANGE: &str = "
local record = redis.call('HMGET', KEYS[1], 'primary_uid', 'previous_uid', 'rotated_at', 'generation')
redis.call('SCARD', KEYS[2])
local primary, previous = record[1], record[2]
local rotated_at, generation = tonumber(record[3] or '0'), tonumber(record[4] or '0')
local function answer(applied) return {applied, now, redis.call('HGETALL', KEYS[1])} end
";

/// ARGV generation, new primary, index.
const KEY_PUBLISH: &str = "
if previous or generation ~= tonumber(ARGV[1]) then return answer(0) end
redis.call('HSET', KEYS[1], 'primary_uid', ARGV[2], 'rotated_at', whole(now), 'generation', whole(generation + 1), 'rotate_now', '0')
if primary then redis.call('HSET', KEYS[1], 'previous_uid', primary) end
redis.call('SADD', KEYS[2], ARGV[3])
return answer(1)
";

/// ARGV generation.
const KEY_FINISH: &str = "
if not previous or generation ~= tonumber(ARGV[1]) then return answer(0) end
redis.call('HDEL', KEYS[1], 'previous_uid')
return answer(1)
";

/// ARGV least age, or empty.
const KEY_REQUEST: &str = "
local age = tonumber(ARGV[1])
if not primary or previous or (age and now - rotated_at < age) then return answer(0) end
redis.call('HSET', KEYS[1], 'rotate_now', '1')
return answer(1)
";

/// ARGV index.
const KEY_FORGET: &str = "
local removed = redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[1])
return answer(removed)
";

/// KEYS beacon; ARGV generation, life.
const KEY_OBSERVE: &str = "
redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'observed_at', whole(now))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
";

/// All steps; they are loaded when the server does not know them, also after a restart or `SCRIPT FLUSH`.
pub(super) struct Scripts {
    pub(super) hit: Script,
    pub(super) login_attempt: Script,
    pub(super) login_failed: Script,
    pub(super) cdc_push: Script,
    pub(super) cdc_front: Script,
    pub(super) cdc_ack: Script,
    pub(super) key_state: Script,
    pub(super) key_publish: Script,
    pub(super) key_finish: Script,
    pub(super) key_request: Script,
    pub(super) key_forget: Script,
    pub(super) key_observe: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let script = |parts: &[&str]| Script::new(&format!("{COMMON}{}", parts.concat()));
        Self {
            hit: script(&[HIT, HIT_ONLY]),
            login_attempt: script(&[HIT, LOGIN_ATTEMPT]),
            login_failed: script(&[LOGIN_FAILED]),
            cdc_push: script(&[CDC, CDC_PUSH]),
            cdc_front: script(&[CDC, CDC_FRONT]),
            cdc_ack: script(&[CDC, CDC_ACK]),
            key_state: script(&[KEY_STATE]),
            key_publish: script(&[KEY_CHANGE, KEY_PUBLISH]),
            key_finish: script(&[KEY_CHANGE, KEY_FINISH]),
            key_request: script(&[KEY_CHANGE, KEY_REQUEST]),
            key_forget: script(&[KEY_CHANGE, KEY_FORGET]),
            key_observe: script(&[KEY_OBSERVE]),
        }
    }
}
