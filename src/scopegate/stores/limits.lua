-- "N per T" over several windows: admit in all or count in none. The rule of limits/window.py, in one atomic step.
--
-- KEYS[i]   a list of admission times in microseconds, oldest first, never more than the largest limit of late;
--           of a paced window one time, a span before its burst is free again
-- ARGV[1]   empty: this server's clock; tests put a time here, in microseconds
-- ARGV[3i-1], ARGV[3i], ARGV[3i+1]   limit, span in microseconds and burst (0: not paced) of KEYS[i]; limit and burst
--           may change between calls
-- returns   {retry_after_ms, remaining_1, more_ms_1, reset_ms_1, remaining_2, ...}; retry_after_ms is 0 when admitted
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

local lasts, counts, oldests, wait = {}, {}, {}, 0
for i, key in ipairs(KEYS) do
  local limit, span, burst = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local interval, latest = 0, now
  if burst > 0 then
    interval = math.ceil(span / (limit - burst + 1))
    latest = now + math.max(0, burst * interval - span)
  end
  local last, count, oldest = at(key, -1), 0, now
  if last and last > latest then
    shift(key, last, latest)
    last = latest
  end
  if last and last + span <= now then
    redis.call('DEL', key)
    last = nil
  elseif last and burst > 0 then
    wait = math.max(wait, last + span - now - (burst - 1) * interval)
  elseif last then
    count, oldest = trim(key, redis.call('LLEN', key), now - span)
    if count >= limit then
      -- The one that must leave first: the oldest, unless the limit was lowered.
      oldest = count == limit and oldest or at(key, count - limit)
      wait = math.max(wait, oldest + span - now)
    end
  end
  lasts[i], counts[i], oldests[i] = last, count, oldest
end

local reply = { math.ceil(wait / 1000) }
for i, key in ipairs(KEYS) do
  local limit, span, burst = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local interval = burst > 0 and math.ceil(span / (limit - burst + 1))
  local last, count = lasts[i], counts[i]
  if wait == 0 then
    if interval then
      redis.call('DEL', key)
      last = (last or now - span) + interval
    else
      last, count = now, count + 1
    end
    redis.call('RPUSH', key, string.format('%.0f', last))
    -- A second more than the span: the key must outlive its last admission, and expiry only knows milliseconds.
    redis.call('PEXPIRE', key, math.ceil((last - now + span) / 1000) + 1000)
  end
  local left = last and last + span - now or 0
  local remaining, more = limit - count, oldests[i] + span - now
  if interval then
    remaining = burst - math.ceil(left / interval)
    more = left > 0 and left - (burst - math.max(0, remaining) - 1) * interval or span
  end
  reply[3 * i - 1] = math.max(0, remaining)
  reply[3 * i] = math.ceil(more / 1000)
  reply[3 * i + 1] = math.ceil(left / 1000)
end
return reply
