-- One beat of a process that counts here: it is alive, and the clock of all goes on.
--
-- KEYS[1]   who is alive: a sorted set by the time of the last beat
-- KEYS[2]   the clock (see window.lua) and the mark of these data
-- ARGV[1]   the process; ARGV[2] a new mark, for data that have none
-- ARGV[3]   microseconds of the process' own clock since its beat before, empty for its first
-- returns   {how many are alive, the mark, how often this server's clock was set so far ahead that keys may have ended}
--
-- A server's clock that went back, or further ahead than the process saw time pass, was set. The clock of all stands still
-- for that beat: nothing is over early, and nothing lasts longer than a beat more.
local ALIVE = 5000000
local SLACK = 1000000
local SPARE = 60000000 -- see window.lua
local YEAR = 31622400000

local time = redis.call('TIME')
local server = time[1] * 1000000 + time[2]
local beat = redis.call('HMGET', KEYS[2], 'server', 'now', 'mark', 'leaps')
local now, mark, leaps = server, beat[3], tonumber(beat[4] or 0)
if mark then
  local passed, seen = server - beat[1], tonumber(ARGV[3])
  if passed < 0 or (seen and passed > seen * 1.001 + SLACK) then
    leaps = leaps + (passed > SPARE and 1 or 0)
    passed = 0
  end
  now = beat[2] + passed
else
  mark = ARGV[2]
end
redis.call('HSET', KEYS[2], 'server', string.format('%.0f', server), 'now', string.format('%.0f', now), 'mark', mark, 'leaps', leaps)
redis.call('PEXPIRE', KEYS[2], YEAR) -- of a clock that was set as far ahead the mark would be lost
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ALIVE))
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('PEXPIRE', KEYS[1], 60000)
return { redis.call('ZCARD', KEYS[1]), mark, leaps }
