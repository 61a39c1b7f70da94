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

-- A call from here costs more than the change of an entry.
local CALL_VALUES_MAX = 200

-- Entries of sets that are to be written together, a key at a time: by command, by key.
local function no_entries()
  return {ZREM = {}, SREM = {}, ZADD = {}, SADD = {}}
end

-- Runs commands whose places count from `base`; `place` says what a place is as a decimal string. A word is a string, a
-- place (a number), or an index entry with a place in it: what stands before its 19 digits, the place, and what follows.
-- With `entries`, what changes sets is put off until `run_entries`.
local function run(ops, place, base, entries)
  local i, n = 1, #ops
  while i <= n do
    local last = i + ops[i]
    for j = i + 3, last do
      local word = ops[j]
      if type(word) == 'number' then
        ops[j] = place(base + word)
      elseif type(word) == 'table' then
        local digits = place(base + word[2])
        ops[j] = word[1] .. string.rep('0', 19 - #digits) .. digits .. word[3]
      end
    end
    local sets = entries and entries[ops[i + 1]]
    if sets then
      local values = sets[ops[i + 2]]
      if not values then
        values = {}
        sets[ops[i + 2]] = values
      end
      local count = #values
      for j = i + 3, last do
        count = count + 1
        values[count] = ops[j]
      end
    else
      -- A command has as many words as its table has columns.
      redis.call(unpack(ops, i + 1, last))
    end
    i = last + 1
  end
end

-- Writes what was put off. A member belongs to one row, which is changed once and is removed before it is added: what
-- all rows remove can go before what all rows add.
local function run_entries(entries)
  for _, name in ipairs({'ZREM', 'SREM', 'ZADD', 'SADD'}) do
    for key, values in pairs(entries[name]) do
      for first = 1, #values, CALL_VALUES_MAX do
        redis.call(name, key, unpack(values, first, math.min(first + CALL_VALUES_MAX - 1, #values)))
      end
    end
  end
end
