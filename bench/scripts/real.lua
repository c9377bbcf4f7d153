-- Traffic as an edge behind a balancer meets it: 4,096 different requests in turn, drawn anew from each seed. Eleven
-- fields, cookies and trace ids; whose request it is, one of 20,000 addresses, the balancer (a trusted proxy) tells.
local random, format = math.random, string.format
local REQUESTS, CLIENTS = 4096, 20000
local requests, turn = {}, 0
local words = { "leads", "quotes", "jobs", "invoices", "offers", "photos" }
local systems = {
  "Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64", "Linux; Android 16; Pixel 9",
}

local function hex(digits)
  local drawn = {}
  for i = 1, digits do
    drawn[i] = format("%x", random(0, 15))
  end
  return table.concat(drawn)
end

local function agent()
  local version = random(120, 150)
  if random() < 0.25 then
    return format("Mozilla/5.0 (%s; rv:%d.0) Gecko/20100101 Firefox/%d.0", systems[random(#systems)], version, version)
  end
  return format("Mozilla/5.0 (%s) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.%d.%d Safari/537.36",
    systems[random(#systems)], version, random(1000, 9999), random(1, 255))
end

local function address(clients)
  local n = clients[random(CLIENTS)]
  return format("%d.%d.%d.%d", 11 + n % 89, math.floor(n / 89) % 256, math.floor(n / 22784) % 256, n % 254 + 1)
end

init = function(args)
  math.randomseed(tonumber(args[1]) or 1)
  local clients, word = {}, words[random(#words)]
  for i = 1, CLIENTS do
    clients[i] = random(0, 2 ^ 31 - 1)
  end
  for i = 1, REQUESTS do
    requests[i] = wrk.format("GET", format("/real/%s/%d?v=%s&page=%d", word, random(1, 2 ^ 31), hex(8), random(1, 500)), {
      ["Host"] = wrk.headers["Host"],
      ["User-Agent"] = agent(),
      ["Accept"] = "application/json, text/plain, */*",
      ["Accept-Language"] = format("%s;q=0.%d", words[random(#words)]:sub(1, 2), random(1, 9)),
      ["Accept-Encoding"] = "gzip, deflate, br",
      ["Referer"] = format("https://app.example/%s/%s", words[random(#words)], hex(6)),
      ["Cookie"] = format("session=%s; theme=dark; _ga=GA1.1.%d", hex(40), random(1, 2 ^ 31)),
      ["X-Forwarded-For"] = address(clients),
      ["traceparent"] = format("00-%s-%s-01", hex(32), hex(16)),
      ["Sec-Fetch-Mode"] = "cors",
      ["Sec-Fetch-Site"] = "same-origin",
    })
  end
end

request = function()
  turn = turn % REQUESTS + 1
  return requests[turn]
end
