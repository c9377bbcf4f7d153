from __future__ import annotations

import subprocess
import sys

from tests.policies import ENVIRON, EXAMPLE, review


def test_values_of_the_environment_show_nowhere() -> None:
    text = EXAMPLE.read_text()
    for written, variable in (
        ("connect: 2s", 'connect: "${A}"'),
        ("GET /api/**, tier: lenient}", '"GET ${B}", tier: "${C}"}'),
        ("[http://127.0.0.1:3000]", '["http://${D}"]'),
        ("name: presign", 'name: "${A}"'),
        ("response.id", '"${B}"'),
        ("model: claude-haiku-5-5", "model: ${C}"),
    ):
        assert written in text
        text = text.replace(written, variable)
    environ = dict.fromkeys("ABCD", "hunter2 hunter2") | dict.fromkeys(ENVIRON, "hunter2")
    found = review(text, environ)
    shown = "\n".join(map(str, found.problems + found.warnings))
    assert len(found.problems) >= 9
    assert "hunter2" not in shown
    assert "'${A}' (A has 15 characters: letters, digits, spaces) is not a duration" in shown


def test_loading_a_policy_imports_nothing_heavy() -> None:
    script = "import sys, scopegate.policy; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    heavy = {"anthropic", "httpx", "httpx2", "redis", "arq", "sqlalchemy", "starlette", "uvicorn", "prometheus_client"}
    heavy |= {"jmespath"}
    assert heavy & set(done.stdout.split()) == set()
    assert {"pydantic", "yaml"} <= set(done.stdout.split())
