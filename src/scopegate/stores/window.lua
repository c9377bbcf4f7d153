-- What every script about windows begins with.
local LEAP = 3000000 -- three beats
-- A key lives so much longer than its window: a clock that is set ahead by less ends none before its time.
local SPARE = 60000000
local is_far_ahead = false

-- This server's time in microseconds, as far as it goes on steadily: `live.lua` keeps it going from beat to beat, and in
-- between it neither goes back nor leaps, whatever the server's clock is set to.
local function clock()
  local time = redis.call('TIME')
  local server = time[1] * 1000000 + time[2]
  local beat = redis.call('HMGET', 'scopegate:{w}:clock', 'server', 'now')
  if not beat[1] then
    return server
  end
  is_far_ahead = server - beat[1] > SPARE
  return beat[2] + math.max(0, math.min(server - beat[1], LEAP))
end

local now = ARGV[1] == '' and clock() or tonumber(ARGV[1])

-- Four arguments.
local function numbers(from)
  return tonumber(ARGV[from]), tonumber(ARGV[from + 1]), tonumber(ARGV[from + 2]), tonumber(ARGV[from + 3])
end

local function at(key, index)
  return tonumber(redis.call('LINDEX', key, index))
end

-- The server's clock was set back: the newest admission counts as made at `latest`, the others as long before it as they
-- were. Nobody is admitted early, and nobody waits longer than a span.
local function shift(key, last, latest)
  for index, time in ipairs(redis.call('LRANGE', key, 0, -1)) do
    redis.call('LSET', key, index - 1, string.format('%.0f', time - last + latest))
  end
end

-- Drop what left the window and say how many stay, and the oldest of them. The newest of `count` is known to stay. Galloping, then halving:
-- one look when nothing left, two when one did, a logarithm after a pause.
local function trim(key, count, edge)
  local oldest = at(key, 0)
  if oldest > edge then
    return count, oldest
  end
  local gone, stays, step = 0, count - 1, 1
  while gone + step < stays and at(key, gone + step) <= edge do
    gone = gone + step
    step = step * 2
  end
  stays = math.min(stays, gone + step)
  while stays - gone > 1 do
    local middle = math.floor((gone + stays) / 2)
    if at(key, middle) <= edge then gone = middle else stays = middle end
  end
  redis.call('LTRIM', key, stays, -1)
  return count - stays, at(key, 0)
end

local function expire(key, after)
  redis.call('PEXPIRE', key, math.ceil((after + SPARE) / 1000))
end

-- So many admissions of one moment.
local function push(key, time, count)
  local word = string.format('%.0f', time)
  if count == 1 then
    redis.call('RPUSH', key, word)
    return
  end
  local words = {}
  for n = 1, math.min(count, 1000) do words[n] = word end
  while count > 0 do
    redis.call('RPUSH', key, unpack(words, 1, math.min(count, 1000)))
    count = count - 1000
  end
end

-- How many admissions of a span count, and the oldest and the newest of them.
local function count_of(key, span)
  local last = at(key, -1)
  if last and last > now then
    shift(key, last, now)
    last = now
  end
  if last and last + span > now then
    local count, oldest = trim(key, redis.call('LLEN', key), now - span)
    return count, oldest, last
  elseif last then
    redis.call('DEL', key)
  end
  return 0, now, nil
end
