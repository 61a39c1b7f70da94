-- One group commit: checks everything, appends, changes rows and helpers, moves the head. Nothing is written before the
-- last check, because a script that fails half-way is not rolled back.
--
-- KEYS: log, head, identity, turns.
-- ARGV: MessagePack of {writer id, sequence number, log id, epoch, known head, now, instant or '', lag allowed (ms), groups}.
-- A group: {conditions, commits, commands, valid until or '', tables, answers asked for, whether it was overtaken before}.
-- Conditions and commits come in flat arrays, because every table costs:
--   condition  0, hash, field, tombstones, key, rev: the row has this rev; 1, ...: or is gone;
--              2, hash, value, key, key before, '': nobody else has this unique value
--   commit     place of its last event, bytes, answer key or '', place of its first event, pieces of the answer, how long it is
--              kept (ms), commit id, instant or ''
-- Positions, instants and numbers that grow are decimal strings; a place counts from the group's first event.

local TURN_MS = 100
local WAITING_BYTES_MAX = 4096

local writer, seq, id, epoch, known, now, given, lag, groups = unpack(cmsgpack.unpack(ARGV[1]))

local identity = redis.call('HMGET', KEYS[3], 'id', 'epoch')
local head = redis.call('HMGET', KEYS[2], 'position', 'commit', 'recorded_at', 'w:' .. writer)
if not head[1] or identity[1] ~= id or identity[2] ~= epoch or less(head[1], known) then
  return {'diverged'}
end
if head[4] and not less(string.match(head[4], '^%d+'), seq) then
  return {'fenced'}
end

local server = server_ms()
local t = given ~= '' and given or server
if less(t, head[3]) then
  t = head[3]
end
-- A decision is made shortly before it is written, by the log's clock.
if given == '' and (less(t, now) or tonumber(t) - tonumber(now) > lag) then
  return {'clock', server}
end

local turns = redis.call('HLEN', KEYS[4]) > 0
local buried = {}
local right = {}

-- Writers that were overtaken on a table go first, one after the other: `writer ends writer writer ...`. The first of them
-- has until then (ms) to write; the table's other writers are put off meanwhile.
local queues = {}
local wanted = {}

local function queue_of(name)
  local queue = queues[name]
  if not queue then
    queue = {}
    queues[name] = queue
    local value = turns and redis.call('HGET', KEYS[4], name)
    if value then
      queue.who, queue.ends, queue.rest = string.match(value, '^(%S+) (%d+)(.*)$')
    end
  end
  return queue
end

local function next_turn(queue)
  queue.who, queue.rest = string.match(queue.rest, '^ (%S+)(.*)$')
  queue.ends = add(server, TURN_MS)
  queue.changed = true
end

local function others_turn(tables)
  local others = false
  for i = 1, #tables do
    local queue = queue_of(tables[i])
    if queue.who and not less(server, queue.ends) then
      next_turn(queue)
    end
    others = others or (queue.who and queue.who ~= writer)
  end
  return others
end

local function ask_for_turn(queue)
  if not queue.who then
    queue.who, queue.ends, queue.rest = writer, add(server, TURN_MS), ''
  elseif queue.who ~= writer and not string.find(queue.rest, writer, 1, true) and #queue.rest < WAITING_BYTES_MAX then
    queue.rest = queue.rest .. ' ' .. writer
  else
    return
  end
  queue.changed = true
end

local function rev_of(hash, field, tombstones, key)
  local rev = redis.pcall('HGET', hash, field)
  if type(rev) == 'table' then
    return nil, hash .. ': ' .. rev.err
  end
  right[hash] = true
  if rev then
    return rev
  end
  if buried[tombstones] == nil then
    buried[tombstones] = redis.call('EXISTS', tombstones) == 1
  end
  return buried[tombstones] and redis.call('HGET', tombstones, key) or '0'
end

-- What keeps a group from being written: {1, changed conditions} rows, {2, which, answer} an earlier answer, {3, why} a key of
-- a wrong type, {4} the time. Nothing is an empty text, and the position before the group once it is written.
local function judge(group)
  local conditions, asked = group[1], group[6]
  for i = 1, #asked do
    local answer = redis.call('GET', asked[i])
    if answer then
      return {2, i, answer}
    end
  end
  -- Before the rows are compared: being overtaken by whoever has the turn counts for nothing.
  if turns and others_turn(group[5]) then
    return {4}
  end
  local stale = {}
  for i = 1, #conditions, 6 do
    local kind, hash = conditions[i], conditions[i + 1]
    if kind == 2 then
      local key = redis.pcall('HGET', hash, conditions[i + 2])
      if type(key) == 'table' then
        return {3, hash .. ': ' .. key.err}
      end
      if key and key ~= conditions[i + 3] and key ~= conditions[i + 4] then
        stale[#stale + 1] = (i + 5) / 6
      end
    else
      local rev, why = rev_of(hash, conditions[i + 2], conditions[i + 3], conditions[i + 4])
      if not rev then
        return {3, why}
      end
      if rev ~= conditions[i + 5] and not (kind == 1 and rev == '0') then
        stale[#stale + 1] = (i + 5) / 6
      end
    end
  end
  if #stale > 0 then
    return {1, stale}
  end
  if group[4] ~= '' and not less(t, group[4]) then
    return {4}
  end
  local wrong = wrong_type(group[3], right)
  return wrong and {3, wrong} or ''
end

local results = {}
local writes = false
for i = 1, #groups do
  results[i] = judge(groups[i])
  writes = writes or (results[i] == '' and #groups[i][2] > 0)
end

local last, commit = head[1], head[2]
if writes then
  local place, base, entries = counted(head[1]), 0, no_entries()
  for i = 1, #groups do
    local commits = groups[i][2]
    if results[i] == '' and #commits > 0 then
      results[i] = last
      for j = 1, #commits, 8 do
        last = place(base + commits[j])
        local entry = last .. '-0'
        local bytes, instant = commits[j + 1], commits[j + 7]
        if instant ~= '' and less(t, instant) then
          t = instant
        end
        -- The first write of all. What could make it fail has no effect on those after it.
        local added =
          redis.pcall('XADD', KEYS[1], 'NOMKSTREAM', entry, 't', t, 'c', bytes, 's', seal(entry, t, bytes))
        if not added then
          return redis.error_reply('LOSTLOG ' .. KEYS[1] .. ' is missing, its head stood at ' .. head[1])
        elseif type(added) == 'table' then
          if string.find(added.err, 'ID specified', 1, true) then
            return redis.error_reply('LOSTLOG ' .. KEYS[1] .. ' has entries beyond its head, which is ' .. head[1])
          elseif string.find(added.err, 'WRONGTYPE', 1, true) then
            return redis.error_reply('WRONGTYPE ' .. KEYS[1] .. ' is no stream any more, the log was kept there')
          end
          return added
        end
      end
      run(groups[i][3], place, base, entries)
      for j = 1, #commits, 8 do
        if commits[j + 2] ~= '' then
          local pieces = commits[j + 4]
          for k = 1, #pieces do
            if type(pieces[k]) == 'number' then
              pieces[k] = place(base + pieces[k])
            end
          end
          local line = place(base + commits[j + 3]) .. ' ' .. place(base + commits[j]) .. ' ' .. t .. '\n'
          redis.call('SET', commits[j + 2], line .. table.concat(pieces), 'PX', commits[j + 5])
        end
      end
      base, commit = base + commits[#commits - 7], commits[#commits - 1]
    end
  end
  run_entries(entries)
  redis.call(
    'HSET', KEYS[2], 'position', last, 'commit', commit, 'recorded_at', t, 'w:' .. writer, seq .. ' ' .. server
  )
end

-- Whoever was overtaken before asks for a turn; a turn that was used, or is not needed any more, ends.
for i = 1, #groups do
  local why = type(results[i]) == 'table' and results[i][1]
  if why == 1 or why == 4 then
    for _, name in ipairs(groups[i][5]) do
      if why == 1 and groups[i][7] == 1 then
        ask_for_turn(queue_of(name))
      end
      wanted[name] = true
    end
  end
end
if turns then
  -- One field a table at most.
  for _, name in ipairs(redis.call('HKEYS', KEYS[4])) do
    local queue = queue_of(name)
    if queue.who == writer and not wanted[name] then
      next_turn(queue)
    end
  end
end
for name, queue in pairs(queues) do
  if queue.changed and queue.who then
    redis.call('HSET', KEYS[4], name, queue.who .. ' ' .. queue.ends .. queue.rest)
  elseif queue.changed then
    redis.call('HDEL', KEYS[4], name)
  end
end

return {'done', server, last, commit, writes and t or head[3], results}
