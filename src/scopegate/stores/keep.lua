-- Keeps one answer whose body is written already, and lets go what ends first until all of them have room.
-- KEYS: answers of this key (hash), their sizes by end (sorted set), what all take, keys of its URL (set), there while its URL has just been changed.
-- ARGV: variant, packed, body id, bytes, ends (Unix ms), now (Unix ms), most bytes, prefix of bodies, prefix of answers,
--       name of the key, longest life (ms).
local answers, ends, total, url = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local variant, packed, body, bytes = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local ends_ms, now_ms, most = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local bodies, prefix, name, life_ms = ARGV[8], ARGV[9], ARGV[10], tonumber(ARGV[11])

local function let_go(member)
  local of, field, id, size = string.match(member, '^(%S+) (%S+) (%S+) (%d+)$')
  redis.call('ZREM', ends, member)
  redis.call('DECRBY', total, size)
  redis.call('DEL', bodies .. id)
  local kept = redis.call('HGET', prefix .. of, field)
  if kept and string.find(kept, id .. ' ', 1, true) == 1 then
    redis.call('HDEL', prefix .. of, field)
  end
end

local before = redis.call('HGET', answers, variant)
if before then
  local id, size = string.match(before, '^(%S+) (%d+) ')
  let_go(name .. ' ' .. variant .. ' ' .. id .. ' ' .. size)
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now_ms, 'LIMIT', 0, 100)) do
  let_go(member)
end
while (tonumber(redis.call('GET', total)) or 0) + bytes > most do
  local first = redis.call('ZRANGE', ends, 0, 0)
  if #first == 0 then
    redis.call('SET', total, 0)
    break
  end
  let_go(first[1])
end
if redis.call('EXISTS', KEYS[5]) == 1 or bytes > most or redis.call('HLEN', answers) >= 64 then
  redis.call('DEL', bodies .. body)
  return 0
end
redis.call('HSET', answers, variant, body .. ' ' .. bytes .. ' ' .. packed)
redis.call('ZADD', ends, ends_ms, name .. ' ' .. variant .. ' ' .. body .. ' ' .. bytes)
redis.call('INCRBY', total, bytes)
redis.call('SADD', url, name)
for _, key in ipairs({answers, ends, total, url}) do
  redis.call('PEXPIRE', key, life_ms)
end
redis.call('PEXPIRE', bodies .. body, math.max(ends_ms - now_ms, 1000))
return 1
