-- One circuit breaker for all processes. The table of limits/breaker.py, each step atomic.
--
-- KEYS[1]   a hash: phase, generation, since, failures, until (ms)
-- ARGV      step (admit, record or phase); now (empty: this server's clock; tests put a time here, in ms);
--           failures, cooldown_ms, lease_ms; time to live in ms; for record: generation, outcome
-- returns   admit: {1, generation, is_probe} or {0, rest_ms, 0}; record and phase: the phase
local key, step = KEYS[1], ARGV[1]
local now
if ARGV[2] == '' then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
else
  now = tonumber(ARGV[2])
end
local limit, cooldown, lease = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local stored = redis.call('HMGET', key, 'phase', 'generation', 'since', 'failures', 'until')
local is_new = not stored[1]
local phase = stored[1] or 'closed'
local generation = tonumber(stored[2] or now)
local since = tonumber(stored[3] or now)
local failures = tonumber(stored[4] or 0)
local until_ms = tonumber(stored[5] or 0)

local function save()
  redis.call('HSET', key, 'phase', phase, 'generation', string.format('%.0f', generation),
    'since', string.format('%.0f', since), 'failures', failures, 'until', string.format('%.0f', until_ms))
  redis.call('PEXPIRE', key, ARGV[6])
end

local function turn(to, ends)
  phase, failures, until_ms = to, 0, ends
  generation = generation + 1
  since = generation
  save()
end

local function rest()
  local whole, left = lease, until_ms - now
  if phase == 'open' then whole = cooldown end
  if left > 0 and left <= whole then return left end
  return 0
end

local function admit()
  if phase == 'closed' then
    -- Stored on first sight, or the result could not be told from one that is older than a lost breaker.
    if is_new then save() end
    return { 1, generation, 0 }
  end
  local left = rest()
  if left > 0 then return { 0, left, 0 } end
  if phase == 'open' then
    turn('half_open', now + lease)
  else
    generation, until_ms = generation + 1, now + lease
    save()
  end
  return { 1, generation, 1 }
end

local function record(permit, outcome)
  if permit < since or permit > generation or phase == 'open' then return end
  if outcome == 'success' then
    if phase == 'half_open' then
      turn('closed', 0)
    elseif failures > 0 then
      failures = 0
      save()
    end
  elseif outcome == 'failure' then
    if phase == 'closed' and failures + 1 < limit then
      failures = failures + 1
      save()
    else
      turn('open', now + cooldown)
    end
  elseif phase == 'half_open' and permit == generation then
    until_ms = 0
    save()
  end
end

if step == 'admit' then return admit() end
if step == 'record' then record(tonumber(ARGV[7]), ARGV[8]) end
if phase == 'open' and rest() == 0 then return 'half_open' end
return phase
