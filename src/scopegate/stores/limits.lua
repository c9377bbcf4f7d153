-- "N per T" over several windows: admit in all or count in none. The rule of limits/window.py, in one atomic step.
--
-- KEYS[i]   a list of admission times in microseconds, oldest first, never more than the largest limit of late
-- ARGV[1]   empty: this server's clock; tests put a time here, in microseconds
-- ARGV[2i], ARGV[2i+1]   the limit and the span, in microseconds, of KEYS[i]; the limit may change between calls
-- returns   {retry_after_ms, remaining_1, reset_ms_1, remaining_2, ...}; retry_after_ms is 0 when admitted
local now
if ARGV[1] == '' then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
else
  now = tonumber(ARGV[1])
end

local function at(key, index)
  return tonumber(redis.call('LINDEX', key, index))
end

-- Drop what left the window and say how many stay. The newest of `count` is known to stay. Galloping, then halving:
-- one look when nothing left, two when one did, a logarithm after a pause.
local function trim(key, count, edge)
  if at(key, 0) > edge then
    return count
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
  return count - stays
end

local lasts, counts, wait = {}, {}, 0
for i, key in ipairs(KEYS) do
  local limit, span = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local last, count = at(key, -1), 0
  -- More than a span ahead of now: the server's clock was set back and the log speaks of another time.
  if last and (last + span <= now or last > now + span) then
    redis.call('DEL', key)
    last = nil
  elseif last then
    count = trim(key, redis.call('LLEN', key), now - span)
    if count >= limit then
      wait = math.max(wait, at(key, count - limit) + span - now)
    end
  end
  lasts[i], counts[i] = last, count
end

local reply = { math.ceil(wait / 1000) }
for i, key in ipairs(KEYS) do
  local limit, span = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local last, count = lasts[i], counts[i]
  if wait == 0 then
    -- The log stays in order when the clock is set back a little.
    last, count = math.max(now, last or now), count + 1
    redis.call('RPUSH', key, string.format('%.0f', last))
    -- A second more than the span: the key must outlive its last admission, and expiry only knows milliseconds.
    redis.call('PEXPIRE', key, math.ceil((last - now + span) / 1000) + 1000)
  end
  reply[2 * i] = math.max(0, limit - count)
  reply[2 * i + 1] = last and math.ceil((last + span - now) / 1000) or 0
end
return reply
