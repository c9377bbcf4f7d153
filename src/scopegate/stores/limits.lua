-- "N per T" over several windows: admit in all or count in none. The rule of limits/window.py, in one atomic step.
--
-- KEYS[i]   a list of admission times in microseconds, oldest first, never more than the largest limit of late;
--           of a paced window one time, a span before its burst is free again
-- ARGV[1]   empty: the clock of window.lua; tests put a time here, in microseconds
-- ARGV[4i-2] to ARGV[4i+1]   limit, span in microseconds, burst (0: not paced) and cost of KEYS[i]; all but the span may
--           change between calls
-- returns   {retry_after_ms, now, remaining_1, more_ms_1, reset_ms_1, remaining_2, ...}; retry_after_ms is 0 when admitted

local lasts, counts, oldests, wait = {}, {}, {}, 0
for i, key in ipairs(KEYS) do
  local limit, span, burst, cost = numbers(i)
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
    wait = math.max(wait, last + span - now - (burst - cost) * interval)
  elseif last then
    count, oldest = trim(key, redis.call('LLEN', key), now - span)
    local over = count + cost - limit
    if over > 0 then
      -- The one that must leave last: the oldest, if the cost is one and the limit was not lowered.
      wait = math.max(wait, (over == 1 and oldest or at(key, over - 1)) + span - now)
    end
    -- The one with which there is one more.
    if count > limit then oldest = at(key, count - limit) end
  end
  lasts[i], counts[i], oldests[i] = last, count, oldest
end

local reply = { math.ceil(wait / 1000), now }
for i, key in ipairs(KEYS) do
  local limit, span, burst, cost = numbers(i)
  local interval = burst > 0 and math.ceil(span / (limit - burst + 1))
  local last, count = lasts[i], counts[i]
  if wait == 0 then
    if interval then
      redis.call('DEL', key)
      last = (last or now - span) + cost * interval
      push(key, last, 1)
    else
      last, count = now, count + cost
      push(key, last, cost)
    end
    expire(key, last - now + span)
  end
  local left = last and last + span - now or 0
  local remaining, more = limit - count, oldests[i] + span - now
  if interval then
    remaining = burst - math.ceil(left / interval)
    more = left > 0 and left - (burst - math.max(0, remaining) - 1) * interval or span
  end
  reply[3 * i] = math.max(0, remaining)
  reply[3 * i + 1] = math.ceil(more / 1000)
  reply[3 * i + 2] = math.ceil(left / 1000)
end
return reply
