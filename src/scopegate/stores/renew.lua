-- Seats are held on: a lease from now for every holder that is still there.
--
-- KEYS      the sorted sets, as in limits.lua
-- ARGV[1]   as in limits.lua
-- ARGV[2]   the lease in microseconds
-- ARGV      of each key the holder
local lease = tonumber(ARGV[2])
for n, key in ipairs(KEYS) do
  redis.call('ZADD', key, 'XX', string.format('%.0f', now + lease), ARGV[n + 2])
  expire(key, lease)
end
return 0
