-- What became of earlier admissions: given back, or booked besides. The rule of Log.amend in limits/window.py.
--
-- KEYS[i]   as in limits.lua
-- ARGV[1]   as in limits.lua
-- ARGV[4i-2] to ARGV[4i+1]   limit, span in microseconds, burst (0: not paced), and how many admissions more (or fewer)
-- ARGV[4n+2i], ARGV[4n+2i+1]   of n windows: when the admission was made, and when a paced window was to be empty then
local n = #KEYS
for i, key in ipairs(KEYS) do
  local limit, span, burst, more = numbers(4 * i - 2)
  local made, full = tonumber(ARGV[4 * n + 2 * i]), tonumber(ARGV[4 * n + 2 * i + 1])
  local last = at(key, -1)
  if burst > 0 then
    local interval = math.ceil(span / (limit - burst + 1))
    local left = last and math.max(0, last + span - now) or 0
    local poured
    if more > 0 then
      poured = math.max(0, math.min(more * interval, burst * interval - left))
    else
      poured = -math.max(0, math.min(-more * interval, full - now, left))
    end
    if poured ~= 0 then
      redis.call('DEL', key)
      push(key, now + left + poured - span, 1)
      expire(key, left + poured)
    end
  elseif more < 0 then
    redis.call('LREM', key, more, string.format('%.0f', made))
  else
    more = math.min(more, limit - count_of(key, span))
    if more > 0 then
      push(key, now, more)
      expire(key, span)
    end
  end
end
return 0
