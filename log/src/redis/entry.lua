-- Helpers for scripts that append. Positions and instants are decimal strings here and never Lua numbers, which are
-- doubles and exact only up to 2^53.

-- The decimal string `position`, plus or minus the small integer `k`. The result must not be negative.
local function add(position, k)
  local high, low = string.sub(position, 1, -16), string.sub(position, -15)
  high = high == '' and 0 or tonumber(high)
  low = tonumber(low) + k
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
