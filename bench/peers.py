"""The peers, each configured for the same job: proxy with kept-alive connections to the app, set the forwarded fields
and a request id, count each client against a limit that this load never meets, write an access log as JSON.

Caddy has no limiter in its standard build, HAProxy writes no file by itself: what a peer leaves out is said in `lacks`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Site:
    """Where a run keeps its files, and the app's `host:port`."""

    folder: Path
    app: str


@dataclass(frozen=True, slots=True)
class Peer:
    """`configure` writes what the peer needs for `port` into its own folder and gives the command that runs it in the
    foreground."""

    name: str
    binary: str
    configure: Callable[[Site, Path, int], list[str]]
    lacks: str = ""

    def is_here(self) -> bool:
        return self.binary == sys.executable or shutil.which(self.binary) is not None


def _write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def _scopegate(site: Site, folder: Path, port: int) -> list[str]:
    text = f"""version: 1
server: {{listen: "127.0.0.1:{port}", workers: 1, limits: {{body: 16MiB}}}}
upstreams: {{web: {{servers: ["http://{site.app}"]}}}}
tiers: {{wide: {{limit: 100000 per 1s, key: client_ip}}}}
routes: [{{name: everything, match: ANY /**, tier: wide}}]
"""
    config = _write(folder / "gateway.yaml", text)
    return [sys.executable, "-m", "scopegate", "gateway", "-c", config]


NGINX_TEMPORARY = "".join(f"{kind}_temp_path {{folder}}/{kind};" for kind in ("fastcgi", "uwsgi", "scgi"))


def _nginx(site: Site, folder: Path, port: int) -> list[str]:
    temporary = NGINX_TEMPORARY.format(folder=folder)
    text = f"""worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; {temporary}
  log_format lines escape=json '{{"ts":"$time_iso8601","request_id":"$request_id","client":"$remote_addr",'
    '"method":"$request_method","path":"$uri","status":$status,"bytes_in":$request_length,'
    '"bytes_out":$body_bytes_sent,"seconds":$request_time}}';
  access_log {folder}/access.log lines buffer=64k flush=1s;
  keepalive_requests 100000000; client_max_body_size 16m;
  limit_req_zone $binary_remote_addr zone=clients:10m rate=100000r/s;
  upstream app {{ server {site.app}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      limit_req zone=clients burst=10000 nodelay;
      proxy_pass http://app; proxy_http_version 1.1; proxy_request_buffering off;
      proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto http; proxy_set_header X-Request-Id $request_id;
      add_header X-Request-Id $request_id;
    }}
  }}
}}
"""
    return ["nginx", "-c", _write(folder / "nginx.conf", text), "-p", str(folder)]


def _haproxy(site: Site, folder: Path, port: int) -> list[str]:
    text = f"""global
  maxconn 4096
  nbthread 1
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  http-reuse always
frontend edge
  bind 127.0.0.1:{port}
  stick-table type ip size 100k expire 10s store http_req_rate(1s)
  http-request track-sc0 src
  http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 1000000 }}
  unique-id-format %{{+X}}o%ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
  option forwardfor
  default_backend app
backend app
  server app {site.app} maxconn 512
"""
    return ["haproxy", "-f", _write(folder / "haproxy.cfg", text), "-db", "-q"]


def _caddy(site: Site, folder: Path, port: int) -> list[str]:
    text = f"""{{
  admin off
  auto_https off
  storage file_system {folder}/store
}}
http://127.0.0.1:{port} {{
  log {{
    output file {folder}/access.log
    format json
  }}
  reverse_proxy {site.app} {{
    header_up X-Request-Id {{http.request.uuid}}
  }}
}}
"""
    return ["caddy", "run", "--config", _write(folder / "Caddyfile", text), "--adapter", "caddyfile"]


PEERS = (
    Peer("scopegate", sys.executable, _scopegate),
    Peer("nginx", "nginx", _nginx),
    Peer("haproxy", "haproxy", _haproxy, lacks="no access log file"),
    Peer("caddy", "caddy", _caddy, lacks="no limiter in the standard build"),
)
