-- Redis, for the nginx peer: a counter for each slot of the clock, by the rule that Kong documents for its free plugin.
-- KEYS[1], ARGV and what is returned: see log.lua.
local time = redis.call('TIME')
local now, limit, span = time[1] * 1000000 + time[2], tonumber(ARGV[1]), tonumber(ARGV[2])
local key = KEYS[1] .. ':' .. math.floor(now / span)
local count = redis.call('INCR', key)
redis.call('PEXPIRE', key, math.ceil(span / 1000) + 1000)
return { count <= limit and 1 or 0, math.max(0, limit - count), math.ceil((span - now % span) / 1000) }
