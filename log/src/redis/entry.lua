-- Helpers for scripts that append. Positions and instants are decimal strings here and never Lua numbers, which are
-- doubles and exact only up to 2^53.

-- A decimal string as two numbers, each of them exact.
local function halves(position)
  local high = string.sub(position, 1, -16)
  return high == '' and 0 or tonumber(high), tonumber(string.sub(position, -15))
end

local function joined(high, low)
  if low >= 1e15 then
    high, low = high + 1, low - 1e15
  elseif low < 0 and high > 0 then
    high, low = high - 1, low + 1e15
  end
  if high == 0 then
    return string.format('%.0f', low)
  end
  return string.format('%.0f%015.0f', high, low)
end

-- The decimal string `position`, plus or minus the small integer `k`. The result must not be negative.
local function add(position, k)
  local high, low = halves(position)
  return joined(high, low + k)
end

-- A function that adds small integers to the decimal string `position`, each of them once.
local function counted(position)
  local high, low = halves(position)
  local known = {}
  return function(k)
    local sum = known[k]
    if not sum then
      sum = joined(high, low + k)
      known[k] = sum
    end
    return sum
  end
end

-- Whether the decimal string `a` is less than the decimal string `b`.
local function less(a, b)
  if #a ~= #b then
    return #a < #b
  end
  return a < b
end

-- What ties an entry's bytes to its place and its instant.
local function seal(id, t, c)
  return string.sub(redis.sha1hex(id .. '|' .. t .. '|' .. string.sub(c, -4)), 1, 8)
end

-- The server's clock in milliseconds.
local function server_ms()
  local time = redis.call('TIME')
  return time[1] .. string.format('%03d', math.floor(tonumber(time[2]) / 1000))
end
