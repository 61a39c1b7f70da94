-- Checks and runs the commands that change rows and helpers.

local KIND = {
  HSET = 'hash', HDEL = 'hash', SADD = 'set', SREM = 'set', ZADD = 'zset', ZREM = 'zset', ZREMRANGEBYSCORE = 'zset',
}

-- Commands come in one flat array, because every table costs: how many words a command has, its name, its key, the rest.

-- The first key that holds something of another type than its command needs: a script that has begun to write cannot
-- take anything back. `known` keys are right already.
local function wrong_type(ops, known)
  local i, n = 1, #ops
  while i <= n do
    local kind, key = KIND[ops[i + 1]], ops[i + 2]
    if kind and not known[key] then
      local found = redis.call('TYPE', key).ok
      if found ~= 'none' and found ~= kind then
        return key .. ' holds a ' .. found .. ', expected a ' .. kind
      end
      known[key] = true
    end
    i = i + ops[i] + 1
  end
  return nil
end

-- Runs commands whose places count from `base`. A word is a string, a place (a number), or an index entry with a place
-- in it: what stands before its 19 digits, the place, and what follows.
local function run(ops, base)
  local i, n = 1, #ops
  while i <= n do
    local last = i + ops[i]
    for j = i + 3, last do
      local word = ops[j]
      if type(word) == 'number' then
        ops[j] = add(base, word)
      elseif type(word) == 'table' then
        local digits = add(base, word[2])
        ops[j] = word[1] .. string.rep('0', 19 - #digits) .. digits .. word[3]
      end
    end
    -- A command has as many words as its table has columns.
    redis.call(unpack(ops, i + 1, last))
    i = last + 1
  end
end
