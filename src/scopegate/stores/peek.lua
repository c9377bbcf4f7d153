-- How windows stand, without counting anything. Behind window.lua.
--
-- KEYS[i]   as in limits.lua
-- ARGV[1]   as in limits.lua
-- ARGV[2i], ARGV[2i+1]   span in microseconds, and the interval of a paced window (0: not paced), of KEYS[i]
-- returns   {counted_1, left_ms_1, counted_2, ...}: what counts now, and milliseconds until nothing does
local reply = {}
for i, key in ipairs(KEYS) do
  local span, interval = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local last = at(key, -1)
  local left = last and math.max(0, last + span - now) or 0
  local count = 0
  if interval > 0 then
    count = math.ceil(left / interval)
  elseif left > 0 then
    for _, time in ipairs(redis.call('LRANGE', key, 0, -1)) do
      if tonumber(time) > now - span then count = count + 1 end
    end
  end
  reply[2 * i - 1], reply[2 * i] = count, math.ceil(left / 1000)
end
return reply
