-- A ban begins now, as if the last strike had come. Behind window.lua.
--
-- KEYS[i]   the list of a ban's one sentence, as in limits.lua
-- ARGV[1]   as in limits.lua
-- ARGV[i+1]   for how many microseconds it holds
for i, key in ipairs(KEYS) do
  redis.call('DEL', key)
  push(key, now, 1)
  expire(key, tonumber(ARGV[i + 1]))
end
return 0
