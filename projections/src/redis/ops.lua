-- Checks and runs the commands that change rows and helpers.

local KIND = {
  HSET = 'hash', HDEL = 'hash', SADD = 'set', SREM = 'set', ZADD = 'zset', ZREM = 'zset', ZREMRANGEBYSCORE = 'zset',
}

-- The first key that holds something of another type than its command needs: a script that has begun to write cannot
-- take anything back. `known` keys are right already.
local function wrong_type(ops, known)
  for i = 1, #ops do
    local kind, key = KIND[ops[i][1]], ops[i][2]
    if kind and not known[key] then
      local found = redis.call('TYPE', key).ok
      if found ~= 'none' and found ~= kind then
        return key .. ' holds a ' .. found .. ', expected a ' .. kind
      end
      known[key] = true
    end
  end
  return nil
end

-- Runs commands whose places count from `base`. An argument is a string, a place (a number), or an index entry with a
-- place in it: what stands before its 19 digits, the place, and what follows.
local function run(ops, base)
  for i = 1, #ops do
    local op = ops[i]
    for j = 3, #op do
      local arg = op[j]
      if type(arg) == 'number' then
        op[j] = add(base, arg)
      elseif type(arg) == 'table' then
        local digits = add(base, arg[2])
        op[j] = arg[1] .. string.rep('0', 19 - #digits) .. digits .. arg[3]
      end
    end
    -- A command has as many arguments as its table has columns.
    redis.call(unpack(op))
  end
end
