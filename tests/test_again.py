"""What `make test` says of tests that pass only alone, in folders of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import again

_ONCE = """
from pathlib import Path
def test_{n}():
    seen = Path(__file__).with_name("seen{n}")
    again = seen.exists()
    seen.touch()
    assert again
"""


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """These runs use no plugin, and to load them takes most of the time."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def _outcome(folder: Path, *tests: str) -> int:
    (folder / "pytest.ini").write_text("[pytest]\n")
    for n, text in enumerate(tests):
        (folder / f"test_{n}.py").write_text(text.replace("{n}", str(n)))
    return again.run(["-q"], ["-q"], folder)


@pytest.mark.parametrize(("unsteady", "code"), [(0, 0), (1, 0), (2, 0), (3, 1)])
def test_what_passes_only_alone_is_named_and_three_fail(
    unsteady: int, code: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _outcome(tmp_path, "def test_steady(): pass", *[_ONCE] * unsteady) == code
    said = capfd.readouterr().out
    assert ("passed only when asked again" in said) == (unsteady > 0)
    named = said.partition("passed only when asked again, alone:")[2]
    assert [f"test_{n}.py::test_{n}" in named for n in range(1, 4)] == [n <= unsteady for n in range(1, 4)]


def test_what_fails_twice_has_failed(tmp_path: Path) -> None:
    assert _outcome(tmp_path, _ONCE, "def test_wrong(): assert False") == 1


def test_a_run_without_tests_is_no_success(tmp_path: Path) -> None:
    assert _outcome(tmp_path) == 5


_DEAF = """
import signal, threading
def test_deaf():
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    threading.Event().wait()
"""


def test_what_no_signal_ends_is_ended_with_its_process_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hang would hide its own name and take the whole run with it."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    (tmp_path / "pyproject.toml").write_bytes(Path("pyproject.toml").read_bytes())
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_deaf.py").write_text(_DEAF + "def test_next(): pass")
    words = [sys.executable, "-m", "pytest", "-n", "1", "-o", "faulthandler_timeout=2"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "crashed while running 'tests/test_deaf.py::test_deaf'" in done.stdout
    assert "1 failed, 1 passed" in done.stdout


def test_only_full_sizes_have_no_bound() -> None:
    assert again.bounds(["-k", "x"]) == ["-o", "faulthandler_timeout=240"]
    assert again.bounds(["--full"]) == []
