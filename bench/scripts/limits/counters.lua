-- Redis, for the nginx peer: the sliding window of two counters, by the rule that Upstash publishes for its `slidingWindow`:
-- slots of the clock, and of the slot before as much as still lies within the span, rounded down.
-- KEYS[1], ARGV and what is returned: see log.lua.
local time = redis.call('TIME')
local now, limit, span = time[1] * 1000000 + time[2], tonumber(ARGV[1]), tonumber(ARGV[2])
local slot = math.floor(now / span)
local key = KEYS[1] .. ':' .. slot
local here = tonumber(redis.call('GET', key) or 0)
local before = tonumber(redis.call('GET', KEYS[1] .. ':' .. slot - 1) or 0)
local weighed = math.floor(before * (1 - now % span / span))
local left = math.ceil((span - now % span) / 1000)
if here + weighed >= limit then
  return { 0, 0, left }
end
redis.call('INCR', key)
redis.call('PEXPIRE', key, math.ceil(span / 500) + 1000)
return { 1, limit - here - weighed - 1, left }
