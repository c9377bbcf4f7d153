-- Redis, for the nginx peer: an exact sliding window as a log of admissions, on the server's clock.
-- KEYS[1] the window; ARGV: limit, span in microseconds, a name that no other request has.
-- Returns {admitted, remaining, milliseconds until the oldest admission leaves}.
local time = redis.call('TIME')
local now, limit, span = time[1] * 1000000 + time[2], tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - span))
local count = redis.call('ZCARD', KEYS[1])
if count >= limit then
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return { 0, 0, math.ceil((oldest[2] + span - now) / 1000) }
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[3])
redis.call('PEXPIRE', KEYS[1], math.ceil(span / 1000) + 1000)
return { 1, limit - count - 1, math.ceil(span / 1000) }
