-- Redis, for the nginx peer: a token bucket, by the rule that Traefik documents for `average` and `burst`: both are the
-- limit.
-- KEYS[1], ARGV and what is returned: see log.lua.
local time = redis.call('TIME')
local now, limit, span = time[1] * 1000000 + time[2], tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = math.min(limit, (kept[1] or limit) + (now - (kept[2] or now)) * limit / span)
if tokens < 1 then
  return { 0, 0, math.ceil((1 - tokens) * span / limit / 1000) }
end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens - 1), 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(span / 1000) + 1000)
return { 1, math.floor(tokens - 1), math.ceil(span / limit / 1000) }
