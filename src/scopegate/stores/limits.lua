-- "N per T" over several windows: admit in all or count in none. The rule of limits/window.py, in one atomic step with what
-- may refuse a request besides (limits/barriers.py).
--
-- KEYS      of w windows a list of admission times in microseconds each, oldest first, never more than the largest limit of
--           late; of a paced window one time, a span before its burst is free again. Then of b bans the list of strikes
--           and that of the one sentence. Then of seats a sorted set, of holders by the end of their leases.
-- ARGV[1]   empty: the clock of window.lua; tests put a time here, in microseconds
-- ARGV[2], ARGV[3]   w and b
-- ARGV      of each window its limit, span in microseconds, burst (0: not paced) and cost; all but the span may change
--           between calls. Of each ban how many strikes, in how many microseconds, for how many microseconds it holds,
--           and the first and the last of the windows whose refusals are strikes. Of seats how many, the lease and when to
--           try again in microseconds, and the holder.
-- returns   {retry_after_ms, now, remaining_1, more_ms_1, reset_ms_1, remaining_2, ..., barred_ms of each barrier};
--           retry_after_ms is 0 when admitted; or the error AHEAD, for keys that ended before their time: the next beat
--           sees to it
if is_far_ahead then
  return redis.error_reply('AHEAD the clock of this server was set ahead')
end

local w, b = tonumber(ARGV[2]), tonumber(ARGV[3])
local lasts, counts, oldests, short, wait = {}, {}, {}, {}, 0
for i = 1, w do
  local key, limit, span, burst, cost = KEYS[i], numbers(4 * i)
  local more, last, count, oldest = 0, nil, 0, now
  if burst > 0 then
    local interval = math.ceil(span / (limit - burst + 1))
    local latest = now + math.max(0, burst * interval - span)
    last = at(key, -1)
    if last and last > latest then
      shift(key, last, latest)
      last = latest
    end
    if last and last + span <= now then
      redis.call('DEL', key)
      last = nil
    elseif last then
      more = last + span - now - (burst - cost) * interval
    end
  else
    count, oldest, last = count_of(key, span)
    local over = count + cost - limit
    if over > 0 then
      -- The one that must leave last: the oldest, if the cost is one and the limit was not lowered.
      more = (over == 1 and oldest or at(key, over - 1)) + span - now
    end
    -- The one with which there is one more.
    if count > limit then oldest = at(key, count - limit) end
  end
  lasts[i], counts[i], oldests[i], short[i] = last, count, oldest, more > 0
  wait = math.max(wait, more)
end

local barred = {}
for n = 1, b do
  local sentence, term = KEYS[w + 2 * n], tonumber(ARGV[4 * w + 5 * n + 1])
  local count, began = count_of(sentence, term)
  barred[n] = count > 0 and began + term - now or 0
  wait = math.max(wait, barred[n])
end
local seats = #KEYS - w - 2 * b
for n = 1, seats do
  local key, most, _, pause = KEYS[w + 2 * b + n], numbers(4 * w + 5 * b + 4 * n)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now))
  barred[b + n] = redis.call('ZCARD', key) >= most and pause or 0
  wait = math.max(wait, barred[b + n])
end

for n = 1, wait > 0 and b or 0 do
  local from = 4 * w + 5 * n - 1
  local most, within, term, first = numbers(from)
  local struck = false
  for i = first, tonumber(ARGV[from + 4]) do struck = struck or short[i] end
  if struck and barred[n] == 0 then
    local strikes, sentence = KEYS[w + 2 * n - 1], KEYS[w + 2 * n]
    if count_of(strikes, within) + 1 < most then
      push(strikes, now, 1)
      expire(strikes, within)
    else
      redis.call('DEL', strikes)
      push(sentence, now, 1)
      expire(sentence, term)
      barred[n] = term
      wait = math.max(wait, term)
    end
  end
end
for n = 1, wait == 0 and seats or 0 do
  local key, from = KEYS[w + 2 * b + n], 4 * w + 5 * b + 4 * n
  local lease = tonumber(ARGV[from + 1])
  redis.call('ZADD', key, string.format('%.0f', now + lease), ARGV[from + 3])
  expire(key, lease)
end

local reply = { math.ceil(wait / 1000), now }
for i = 1, w do
  local key, limit, span, burst, cost = KEYS[i], numbers(4 * i)
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
for n, left in ipairs(barred) do reply[3 * w + 2 + n] = math.ceil(left / 1000) end
return reply
