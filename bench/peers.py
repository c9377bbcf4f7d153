"""Who takes part: how a peer is started, what it is measured against, what it leaves out, which version it is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

from bench import configs, node
from bench.configs import LIMIT

_PURE = Path(__file__).parents[1] / "src"
_COMPILED = Path(__file__).parents[1] / ".compiled"
NGINX_MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")
_LUA_REDIS = ("/usr/share/lua/5.1/nginx/redis.lua", "/usr/share/lua/5.1/resty/redis.lua")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a run keeps its files, the app's `host:port`, and the port of its Redis where it has one."""

    folder: Path
    app: str
    redis_port: int = 0


@dataclass(frozen=True, slots=True)
class Command:
    """What runs a peer in the foreground; `env` comes on top of the little every peer gets."""

    argv: list[str]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """`configure` writes what the peer needs for `port` into its own folder. Ratios are against the peer named
    `rival`; a peer that is its own rival is the yardstick. What Redis uses during a turn is counted for a peer with
    `redis`."""

    name: str
    configure: Callable[[Site, Path, int], Command]
    is_here: Callable[[], bool]
    version: Callable[[], str]
    rival: str = "nginx"
    lacks: str = ""
    redis: bool = False


def _write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def _scopegate(
    site: Site,
    folder: Path,
    port: int,
    *,
    patterns: tuple[str, ...] = ("/**",),
    workers: int = 1,
    redis: bool = False,
    pure: bool = False,
    limit: int = LIMIT,
    keeps: bool = False,
) -> Command:
    text = configs.scopegate(site.app, port, patterns, workers, f"{limit} per 1s", keeps=keeps)
    config = _write(folder / "gateway.yaml", text)
    env = {"REDIS_URL": f"redis://127.0.0.1:{site.redis_port}/0"} if redis else {}
    env["PYTHONPATH"] = str(_PURE if pure else _COMPILED)
    return Command([sys.executable, "-m", "scopegate", "gateway", "-c", config], env)


def _nginx(
    site: Site,
    folder: Path,
    port: int,
    *,
    patterns: tuple[str, ...] = ("/**",),
    workers: int = 1,
    redis: bool = False,
    limit: int = LIMIT,
    script: str = "log",
    keeps: bool = False,
) -> Command:
    modules = [_modules_folder() / name for name in NGINX_MODULES] if redis else []
    redis_port = site.redis_port if redis else None
    text = configs.nginx(site.app, port, folder, patterns, workers, modules, redis_port, limit, script, keeps=keeps)
    return Command(["nginx", "-c", _write(folder / "nginx.conf", text), "-p", str(folder)])


def _haproxy(site: Site, folder: Path, port: int, *, limit: int = LIMIT) -> Command:
    return Command(["haproxy", "-f", _write(folder / "haproxy.cfg", configs.haproxy(site.app, port, limit)), "-db"])


def _caddy(site: Site, folder: Path, port: int) -> Command:
    config = _write(folder / "Caddyfile", configs.caddy(site.app, port, folder))
    return Command(["caddy", "run", "--config", config, "--adapter", "caddyfile"])


def _node(name: str, site: Site, folder: Path, port: int) -> Command:
    return Command(node.command(name, port, site.app, folder / "access.log"), {"NODE_ENV": "production"})


def _modules_folder() -> Path:
    found = re.search(r"--modules-path=(\S+)", _says("nginx", "-V"))
    return Path(found[1] if found else "/usr/lib/nginx/modules")


def has_lua() -> bool:
    """nginx with ngx_lua and a Redis client for it, and a Redis server."""
    return (
        has("nginx", "redis-server")
        and all((_modules_folder() / name).exists() for name in NGINX_MODULES)
        and any(Path(path).exists() for path in _LUA_REDIS)
    )


def has(*tools: str) -> bool:
    return all(shutil.which(tool) for tool in tools)


def _says(*argv: str) -> str:
    """What a tool prints of itself, on either stream."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout + done.stderr


def number(text: str) -> str:
    """The first version number in a tool's words."""
    found = re.search(r"\d+\.\d+[\w.]*", text)
    return found[0] if found else "unknown"


def has_compiled() -> bool:
    """`make compiled`, with this interpreter."""
    return (_COMPILED / f"scopegate__mypyc{sysconfig.get_config_var('EXT_SUFFIX')}").exists()


def _scopegate_version(build: str) -> str:
    parts = ", ".join(f"{name} {version(name)}" for name in ("uvloop", "httptools"))
    return f"{version('scopegate')} {build} (CPython {sys.version.split()[0]}, {parts})"


def _nginx_version() -> str:
    return number(_says("nginx", "-v"))


def redis_version() -> str:
    return number(_says("redis-server", "--version"))


def _lua_version() -> str:
    return f"{_nginx_version()} with ngx_lua, Redis {redis_version()}"


def scopegate(
    name: str,
    rival: str = "nginx",
    *,
    patterns: tuple[str, ...] = ("/**",),
    workers: int = 1,
    redis: bool = False,
    pure: bool = False,
    limit: int = LIMIT,
    keeps: bool = False,
) -> Peer:
    """The compiled build, or the sources as they are (`pure`). `keeps`: with a cache."""
    configure = partial(
        _scopegate, patterns=patterns, workers=workers, redis=redis, pure=pure, limit=limit, keeps=keeps
    )

    def is_here() -> bool:
        return (pure or has_compiled()) and (not redis or has("redis-server"))

    return Peer(
        name, configure, is_here, partial(_scopegate_version, "pure" if pure else "compiled"), rival, redis=redis
    )


def nginx(
    name: str,
    rival: str = "nginx",
    *,
    patterns: tuple[str, ...] = ("/**",),
    workers: int = 1,
    limit: int = LIMIT,
    keeps: bool = False,
) -> Peer:
    configure = partial(_nginx, patterns=patterns, workers=workers, limit=limit, keeps=keeps)
    return Peer(
        name,
        configure,
        partial(has, "nginx"),
        _nginx_version,
        rival,
        "exact windows, rate-limit fields, metrics beyond stub counters",
    )


SCOPEGATE = scopegate("scopegate")
SCOPEGATE_PURE = scopegate("scopegate-pure", pure=True)
NGINX = nginx("nginx")
SCOPEGATE_CACHE = scopegate("scopegate+cache", "nginx+cache", keeps=True)
SCOPEGATE_PURE_CACHE = scopegate("scopegate-pure+cache", "nginx+cache", keeps=True, pure=True)
NGINX_CACHE = nginx("nginx+cache", "nginx+cache", keeps=True)


def haproxy(name: str, limit: int = LIMIT) -> Peer:
    return Peer(
        name,
        partial(_haproxy, limit=limit),
        partial(has, "haproxy"),
        lambda: number(_says("haproxy", "-v")),
        lacks="exact windows, rate-limit fields",
    )


HAPROXY = haproxy("haproxy")
CADDY = Peer(
    "caddy",
    _caddy,
    partial(has, "caddy"),
    lambda: number(_says("caddy", "version")),
    lacks="a limiter (the standard build has none)",
)
FASTIFY = Peer(
    "fastify",
    partial(_node, "fastify"),
    node.is_here,
    partial(node.versions, "fastify", "@fastify/http-proxy", "@fastify/rate-limit"),
    lacks="exact windows, limits on connections, heads and waiting requests",
)
EXPRESS = Peer(
    "express",
    partial(_node, "express"),
    node.is_here,
    partial(node.versions, "express", "http-proxy-middleware", "express-rate-limit"),
    lacks="exact windows, limits on connections, heads, bodies and waiting requests",
)
SCOPEGATE_REDIS = scopegate("scopegate+redis", "nginx+lua+redis", redis=True)
SCOPEGATE_PURE_REDIS = scopegate("scopegate-pure+redis", "nginx+lua+redis", redis=True, pure=True)


def nginx_redis(name: str, *, script: str = "log", limit: int = LIMIT) -> Peer:
    """`script`: one of scripts/limits, which says by what rule it counts in Redis."""
    return Peer(
        name,
        partial(_nginx, redis=True, limit=limit, script=script),
        has_lua,
        _lua_version,
        "nginx+lua+redis",
        "metrics, anything but 503 while Redis is down",
        redis=True,
    )


NGINX_REDIS = nginx_redis("nginx+lua+redis")
