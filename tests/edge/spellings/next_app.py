"""A real Next.js app: installed and built in a folder, and served from it. Needs node and npm."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port

QUIET = {"NEXT_TELEMETRY_DISABLED": "1", "CI": "1"}


def build(folder: Path, version: str, files: Mapping[str, str]) -> str:
    """The app of these files by name. The version that was installed."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    (folder / "package.json").write_text(json.dumps({"name": "app", "private": True}), "utf-8")
    packages = [f"next@{version}", "react", "react-dom"]
    env = os.environ | QUIET
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", *packages], cwd=folder, env=env, check=True)
    subprocess.run(["npx", "next", "build"], cwd=folder, env=env, check=True)
    return str(json.loads((folder / "node_modules/next/package.json").read_text())["version"])


@contextmanager
def serving(folder: Path, environ: Mapping[str, str] = QUIET, options: Sequence[str] = ()) -> Iterator[int]:
    """The port of the running app."""
    port = free_port()
    command = ["node", "node_modules/next/dist/bin/next", "start", "-H", "localhost", "-p", str(port), *options]
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, **QUIET, **environ})
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(10)
