"""The real engines that tests run on: where they are, how one is started, what happens when it is missing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from scopegate.stores.database import Database, open_database
from tests.ports import free_port

POSTGRES_BINARIES = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
UNPRIVILEGED = "nobody"


def missing(engine: str) -> NoReturn:
    """A failure where every engine is promised (CI=true), a skip that names the engine elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{engine} is not on this machine, and CI=true promises it")
    pytest.skip(f"needs {engine}")


def postgres_binary(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join(map(str, POSTGRES_BINARIES))) or shutil.which(name)
    return found or missing("PostgreSQL")


class Postgres:
    """A PostgreSQL server of our own on a unix socket, fsync off. It refuses root: root runs it as `nobody`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._as: dict[str, Any] = (
            {"user": UNPRIVILEGED, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://app@/postgres?host={self.folder}"

    def create(self) -> None:
        if self._as:
            shutil.chown(self.folder, UNPRIVILEGED)
        command = [postgres_binary("initdb"), "-D", str(self.folder / "data"), "-U", "app", "-A", "trust", "-E", "UTF8"]
        command += ["--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, timeout=60, **self._as)

    def start(self) -> None:
        options = ["listen_addresses=", f"unix_socket_directories={self.folder}", "fsync=off", "shared_buffers=16MB"]
        options += ["max_connections=60", "autovacuum=off", "log_min_messages=fatal"]
        settings = [part for option in options for part in ("-c", option)]
        command = [postgres_binary("postgres"), "-D", str(self.folder / "data"), *settings]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self._as)
        ready = [postgres_binary("pg_isready"), "-q", "-h", str(self.folder)]
        for _ in range(600):
            if subprocess.run(ready, timeout=10).returncode == 0:
                return
            assert self._process.poll() is None, (self.folder / "log").read_text()
        raise AssertionError("PostgreSQL does not answer")

    def stop(self) -> None:
        """At once, like a crash: SIGQUIT."""
        if self._process is not None:
            self._process.send_signal(3)
            self._process.wait(timeout=30)
            self._process = None


_session: list[Postgres] = []


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="scopegate-pg-") as folder:
        server = Postgres(Path(folder))
        server.create()
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """One server for the whole session, also when several conftests import this; whoever writes cleans up (`empty`)."""
    if _session:
        yield _session[0].url
        return
    with running_postgres() as server:
        _session.append(server)
        yield server.url
        _session.clear()


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database on each engine in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state/scopegate.db"
    url: str = request.getfixturevalue("postgres_url")
    await empty(url)
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = await open_database(database_url)
    yield opened
    await opened.close()


async def empty(url: str) -> None:
    """Drop every table, of whatever version."""
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()


HAPROXY = """
global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 10s
    timeout server 10s
listen front
    bind 127.0.0.1:{port}
    server gate 127.0.0.1:{to} {option}
"""


@contextmanager
def running_haproxy(folder: Path, to: int, option: str) -> Iterator[int]:
    """An HAProxy that passes TCP connections on to a loopback port; `option` stands on its server line. Yields the
    port it listens on, once it does."""
    binary = shutil.which("haproxy", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin") or missing("HAProxy")
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(port=port, to=to, option=option))
    process = subprocess.Popen([binary, "-db", "-q", "-f", config], stderr=subprocess.PIPE)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.communicate()
