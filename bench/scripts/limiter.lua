-- nginx (ngx_lua): one EVALSHA per request over a kept-alive pool, answers with the customary fields, 429 when spent.
local found, redis = pcall(require, "resty.redis")
if not found then
  redis = require "nginx.redis" -- Debian's name for it
end

local limiter = {}
local source, name, sha

function limiter.read(path)
  name = path:match("(%w+)%.lua$")
  local file = assert(io.open(path))
  source = file:read("*a")
  file:close()
end

local function spend(client, key, limit, span_us)
  if not sha then
    sha = assert(client:script("LOAD", source))
  end
  local answer, problem = client:evalsha(sha, 1, key, limit, span_us, ngx.var.request_id)
  if not answer and problem and problem:find("NOSCRIPT", 1, true) then
    sha = nil
  end
  return answer, problem
end

function limiter.check(port, limit, span_us)
  local client = redis:new()
  client:set_timeout(250)
  local connected, problem = client:connect("127.0.0.1", port)
  local answer
  if connected then
    answer, problem = spend(client, "bench:" .. name .. ":" .. ngx.var.remote_addr, limit, span_us)
  end
  if not answer then
    ngx.log(ngx.ERR, "limits: ", problem)
    return ngx.exit(503)
  end
  client:set_keepalive(60000, 512)
  local header = ngx.header
  header["X-RateLimit-Limit"] = limit
  header["X-RateLimit-Remaining"] = answer[2]
  header["X-RateLimit-Reset"] = math.ceil(ngx.time() + answer[3] / 1000)
  if answer[1] == 0 then
    header["Retry-After"] = math.ceil(answer[3] / 1000)
    return ngx.exit(429)
  end
end

return limiter
