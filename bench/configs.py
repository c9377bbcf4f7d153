"""The text of each peer's configuration. Every one is told to do the same job; what it cannot is said in `peers`.

The job: proxy over kept-alive connections, set the forwarded fields and a request id, count each client against a limit
that this load never meets, write an access log as JSON, keep the customary metrics, and take the
client's address from X-Forwarded-For, since wrk plays a balancer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

LIMIT = 100_000
"""Requests per second and client: never met here."""
LAST_LITERAL = "/last/items"
LAST_PATTERN = "/last/*/detail"
_SCRIPTS = Path(__file__).parent / "scripts"


def routes(count: int, last: str) -> list[str]:
    """`count` patterns, every second one with a wildcard; the last of them is `last`."""
    kinds = ("/api/area-{}/items", "/api/area-{}/*/detail")
    return [kinds[number % 2].format(number) for number in range(count - 1)] + [last]


def app(port: int, folder: Path) -> str:
    """An nginx as the app: `/1m` and `/100m` are files, those below `/kept/` may be kept for an hour, everything else
    answers with 200 bytes."""
    return f"""worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  {_temporary(folder)}
  access_log off; keepalive_requests 100000000; keepalive_timeout 1h; sendfile on; tcp_nopush on;
  client_max_body_size 16m; client_body_buffer_size 16k;
  server {{
    listen 127.0.0.1:{port} backlog=4096; default_type text/plain; root {folder};
    location / {{ return 200 "{"x" * 200}"; }}
    location = /1m {{ }}
    location = /100m {{ }}
    location /kept/ {{ alias {folder}/; add_header Cache-Control max-age=3600; }}
  }}
}}
"""


def scopegate(
    app: str,
    port: int,
    patterns: Sequence[str] = ("/**",),
    workers: int = 1,
    quota: str = f"{LIMIT} per 1s",
    *,
    keeps: bool = False,
) -> str:
    more = ", cache: {}" if keeps else ""
    rules = "\n".join(
        f'  - {{name: route-{number}, match: "ANY {pattern}", tier: wide{more}}}'
        for number, pattern in enumerate(patterns)
    )
    return f"""version: 1
server:
  listen: "127.0.0.1:{port}"
  workers: {workers}
  trusted_proxies: [127.0.0.1/32]
  limits: {{body: 16MiB, connections_per_client: 4096, in_flight_per_client: 512}}
upstreams: {{web: {{servers: ["http://{app}"]}}}}
tiers: {{wide: {{limit: {quota}, key: client_ip}}}}
routes:
{rules}
"""


def nginx(
    app: str,
    port: int,
    folder: Path,
    patterns: Sequence[str] = ("/**",),
    workers: int = 1,
    modules: Sequence[Path] = (),
    redis_port: int | None = None,
    limit: int = LIMIT,
    script: str = "log",
    *,
    keeps: bool = False,
) -> str:
    """With `redis_port` the limit is kept there by ngx_lua and a script of scripts/limits, else in nginx' own zone.
    With `keeps` it has a cache of answers, and gives them as Debian's own configuration does (`sendfile`)."""
    shared = " reuseport" if workers > 1 else ""  # or one worker takes every connection
    loads = "".join(f"load_module {module};\n" for module in modules)
    zone, spend = _own_limit(limit) if redis_port is None else _lua_limit(redis_port, limit, script)
    if keeps:
        zone += f" proxy_cache_path {folder}/kept levels=1:2 keys_zone=kept:10m; sendfile on; tcp_nopush on;"
        spend += " proxy_cache kept; add_header X-Cache-Status $upstream_cache_status;"
    places = "\n".join(f"    location {_location(pattern)} {{ proxy_pass http://app; }}" for pattern in patterns)
    return f"""{loads}worker_processes {workers}; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  {_temporary(folder)}
  log_format lines escape=json '{{"ts":"$time_iso8601","request_id":"$request_id","client":"$remote_addr",'
    '"method":"$request_method","path":"$uri","status":$status,"bytes_in":$request_length,'
    '"bytes_out":$body_bytes_sent,"seconds":$request_time}}';
  access_log {folder}/access.log lines buffer=64k flush=1s;
  keepalive_requests 100000000; client_max_body_size 16m;
  set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For;
  {zone}
  upstream app {{ server {app}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048{shared};
    {spend}
    proxy_http_version 1.1; proxy_request_buffering off; proxy_max_temp_file_size 0;
    proxy_buffer_size 16k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;
    proxy_set_header Connection ""; proxy_set_header Host $http_host;
    proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto http; proxy_set_header X-Request-Id $request_id;
    add_header X-Request-Id $request_id;
{places}
  }}
}}
"""


def _own_limit(limit: int) -> tuple[str, str]:
    """As its users write "so many a second": the limit as a rate, and as many at once."""
    zone = f"limit_req_zone $binary_remote_addr zone=clients:10m rate={limit}r/s;"
    return zone, f"limit_req zone=clients burst={min(limit - 1, 10_000)} nodelay; limit_req_status 429;"


def _lua_limit(redis_port: int, limit: int, script: str) -> tuple[str, str]:
    zone = f"""lua_package_path "{_SCRIPTS}/?.lua;/usr/share/lua/5.1/?.lua;;";
  init_by_lua_block {{ limiter = require "limiter"; limiter.read("{_SCRIPTS}/limits/{script}.lua") }}"""
    return zone, f"access_by_lua_block {{ limiter.check({redis_port}, {limit}, 1000000) }}"


def _location(pattern: str) -> str:
    if pattern == "/**":
        return "/"
    if "*" not in pattern:
        return f"= {pattern}"
    return f"~ ^{pattern.replace('*', '[^/]+')}$"


def _temporary(folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)


def haproxy(app: str, port: int, limit: int = LIMIT) -> str:
    """Its log goes to standard output, which the bench leads into a file."""
    line = (
        '{"ts":"%tr","request_id":"%ID","client":"%ci","method":"%HM","path":"%[capture.req.uri,json(utf8s)]",'
        '"status":%ST,"bytes_in":%U,"bytes_out":%B,"ms":%Ta}'
    ).replace('"', '\\"')
    return f"""global
  maxconn 4096
  nbthread 1
  log stdout format raw local0
defaults
  mode http
  log global
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  http-reuse always
frontend edge
  bind 127.0.0.1:{port}
  log-format "{line}"
  http-request set-src req.hdr(x-forwarded-for,-1) if {{ req.hdr(x-forwarded-for) -m found }}
  stick-table type ip size 100k expire 10s store http_req_rate(1s)
  http-request track-sc0 src
  http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {limit} }}
  unique-id-format %{{+X}}o%ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
  http-response set-header X-Request-Id %[unique-id]
  http-request set-header X-Forwarded-Proto http
  option forwardfor
  default_backend app
backend app
  server app {app} maxconn 512
"""


def caddy(app: str, port: int, folder: Path) -> str:
    return f"""{{
  admin off
  auto_https off
  storage file_system {folder}/store
  servers {{
    metrics
  }}
}}
http://127.0.0.1:{port} {{
  log {{
    output file {folder}/access.log
    format json
  }}
  header X-Request-Id {{http.request.uuid}}
  reverse_proxy {app} {{
    header_up X-Request-Id {{http.request.uuid}}
    trusted_proxies 127.0.0.1/32
    transport http {{
      keepalive_idle_conns_per_host 512
    }}
  }}
}}
"""
