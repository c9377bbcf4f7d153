"""The peers that run on Node: their packages are put into `.bench/node` by `--install-peers`, and run from there."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).parent / "nodejs"
HOME = Path(__file__).parents[1] / ".bench" / "node"


def install() -> bool:
    """Bring the packages of nodejs/package.json, none of whose install scripts are run. False where npm is missing or
    failed; npm's own words are on standard error."""
    if shutil.which("npm") is None:
        return False
    HOME.mkdir(parents=True, exist_ok=True)
    _bring_sources()
    argv = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--loglevel=error"]
    return subprocess.run(argv, cwd=HOME, stdout=subprocess.DEVNULL, check=False).returncode == 0


def is_here() -> bool:
    """Node, and every package in the version that package.json names."""
    if shutil.which("node") is None:
        return False
    wanted: dict[str, str] = json.loads((_SOURCE / "package.json").read_text("utf-8"))["dependencies"]
    return all(_installed(name) == version for name, version in wanted.items())


def command(name: str, port: int, app: str, access_log: Path) -> list[str]:
    """Packages are looked up from the place of the script, so it runs from beside them."""
    _bring_sources()
    return ["node", str(HOME / f"{name}.js"), str(port), app, str(access_log)]


def versions(*packages: str) -> str:
    first, *others = (f"{name} {_installed(name)}" for name in packages)
    done = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=20, check=False)
    return f"{first.split()[-1]} ({', '.join([f'Node {done.stdout.strip()}', *others])})"


def _bring_sources() -> None:
    for source in _SOURCE.iterdir():
        shutil.copy(source, HOME / source.name)


def _installed(name: str) -> str | None:
    manifest = HOME / "node_modules" / name / "package.json"
    if not manifest.exists():
        return None
    return str(json.loads(manifest.read_text("utf-8"))["version"])
