-- A browser's requests, no two alike: path, query, User-Agent, cookies, and 12 to 15 fields. The same seed is given to
-- every peer of a turn, so all of them meet the same heads.
local random, format = math.random, string.format
local platforms = { '"Windows"', '"macOS"', '"Linux"', '"Android"', '"iOS"' }
local systems = {
  "Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64",
  "Linux; Android 14; Pixel 8", "iPhone; CPU iPhone OS 17_4 like Mac OS X",
}
local languages = { "de-DE,de;q=0.9,en;q=0.7", "en-US,en;q=0.9", "fr-FR,fr;q=0.8", "pl,en-GB;q=0.6", "ja" }
local accepts = { "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json", "*/*" }
local words = { "quotes", "jobs", "photos", "leads", "invoices", "users", "offers", "search" }

init = function(args)
  math.randomseed(tonumber(args[1]) or 1)
end

local function cookies()
  local jar = format("sid=%08x%08x; seen=%d", random(0, 2 ^ 31), random(0, 2 ^ 31), random(1, 2 ^ 31))
  if random() < 0.5 then
    jar = jar .. format("; _ga=GA1.1.%d.%d; theme=%s", random(1, 2 ^ 31), random(1, 2 ^ 31), words[random(#words)])
  end
  return jar
end

request = function()
  local system = random(#systems)
  local head = format(
    "GET /varied/%s/%d/%s?page=%d&q=%s-%d HTTP/1.1\r\nHost: %s\r\n"
      .. "User-Agent: Mozilla/5.0 (%s) AppleWebKit/%d.36 (KHTML, like Gecko) Chrome/%d.0.%d.%d Safari/537.36\r\n"
      .. "Accept: %s\r\nAccept-Language: %s\r\nAccept-Encoding: gzip, deflate, br\r\n"
      .. "Referer: http://%s/%s/%d\r\nCookie: %s\r\n"
      .. 'sec-ch-ua-platform: %s\r\nsec-ch-ua-mobile: ?%d\r\n'
      .. "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n",
    words[random(#words)], random(1, 2 ^ 31), words[random(#words)], random(1, 500), words[random(#words)],
    random(1, 2 ^ 31), wrk.headers["Host"],
    systems[system], random(530, 540), random(110, 140), random(1000, 9999), random(1, 255),
    accepts[random(#accepts)], languages[random(#languages)],
    wrk.headers["Host"], words[random(#words)], random(1, 2 ^ 31), cookies(),
    platforms[system], system > 3 and 1 or 0)
  if random() < 0.5 then
    head = head .. format('If-None-Match: W/"%x"\r\n', random(1, 2 ^ 31))
  end
  if random() < 0.5 then
    head = head .. "Cache-Control: max-age=0\r\n"
  end
  if random() < 0.5 then
    head = head .. format("Priority: u=%d, i\r\n", random(0, 7))
  end
  return head .. "\r\n"
end
