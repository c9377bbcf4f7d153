-- What a process admitted or knows of, told to the server after an outage.
--
-- KEYS[i]   a window, as limits.lua keeps it
-- ARGV[1]   as in limits.lua
-- ARGV[2..] for each key: `add` (these were admitted elsewhere) or `keep` (so many are there at least), the span, the
--           interval (0: a list, to be kept or not paced), how many, and their ages, oldest first; all in microseconds
local CHUNK = 1000
local place = 2

local function write(key, span, times)
  redis.call('DEL', key)
  for from = 1, #times, CHUNK do
    redis.call('RPUSH', key, unpack(times, from, math.min(from + CHUNK - 1, #times)))
  end
  if #times > 0 then
    expire(key, times[#times] - now + span)
  end
end

local function merged(have, given, from)
  for index = from, #given do
    table.insert(have, given[index])
  end
  table.sort(have)
  return have
end

for _, key in ipairs(KEYS) do
  local way, span, interval, count = ARGV[place], tonumber(ARGV[place + 1]), tonumber(ARGV[place + 2]), tonumber(ARGV[place + 3])
  local have, given = {}, {}
  for _, time in ipairs(redis.call('LRANGE', key, 0, -1)) do
    if tonumber(time) > now - span then
      table.insert(have, tonumber(time))
    end
  end
  for index = place + 4, place + 3 + count do
    table.insert(given, now - ARGV[index])
  end
  if interval > 0 then
    local full = have[1] or 0
    for _, time in ipairs(given) do
      full = math.max(full, time - span) + interval
    end
    have = { full }
  else
    have = merged(have, given, way == 'add' and 1 or #have + 1)
  end
  for index, time in ipairs(have) do
    have[index] = string.format('%.0f', time)
  end
  write(key, span, have)
  place = place + 4 + count
end
