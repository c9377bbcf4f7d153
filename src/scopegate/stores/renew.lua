-- Seats are held on, or taken again after an outage: a lease from now for each of them.
--
-- KEYS      the sorted sets, as in limits.lua
-- ARGV[1]   as in limits.lua
-- ARGV[2]   the lease in microseconds
-- ARGV[3]   `hold`: only if the holder is still there; `take`: also if not
-- ARGV      of each key the holder
local lease = tonumber(ARGV[2])
for n, key in ipairs(KEYS) do
  local until_when = string.format('%.0f', now + lease)
  if ARGV[3] == 'hold' then
    redis.call('ZADD', key, 'XX', until_when, ARGV[n + 3])
  else
    redis.call('ZADD', key, until_when, ARGV[n + 3])
  end
  expire(key, lease)
end
return 0
