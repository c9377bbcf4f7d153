from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scopegate import policy
from scopegate.errors import ConfigError
from scopegate.limits.window import Quota
from scopegate.policy.compile import compile_policy
from scopegate.policy.document import Document
from scopegate.policy.policy import Address, Mode, OnStoreError, Policy, TierKey, WhenSpent

EXAMPLE = Path(__file__).parent / "example.yaml"
SECRET = "sixteen-bytes-of-secret"
ENVIRON = {"SCOPEGATE_WEBHOOK_SECRET": SECRET, "IDENTITY_SECRET": f"{SECRET}-twice-{SECRET}"}
MINIMAL = """\
version: 1
upstreams: {web: {servers: ["http://127.0.0.1:3000"]}}
routes: [{name: all, match: ANY /**, tier: lenient}]
"""


def compiled(text: str, environ: dict[str, str] | None = None) -> Policy:
    review = compile_policy(text.encode(), "F", environ or {})
    assert review.problems == ()
    assert review.policy is not None
    return review.policy


def test_the_example_means_what_it_says() -> None:
    found = policy.load(EXAMPLE, ENVIRON)
    lead, _, area, _, assets, rest = found.routes
    assert re.fullmatch(r"[0-9a-f]{12}", found.digest)
    assert found.server.listen == Address("0.0.0.0", 8080)
    assert found.server.hosts == {"leads.example.com"}
    assert found.server.limits.head_bytes == 32 * 1024
    assert found.tiers["moderate"].key is TierKey.USER
    assert lead.methods == {"POST"}
    assert lead.tier is found.tiers["strict"]
    assert lead.tier.quotas == (Quota(10, 10_000),)
    assert lead.body.max_bytes == 256 * 1024
    assert lead.offload is found.offloads["lead-photos"]
    assert lead.offload.deliver.secret.get_secret_value() == SECRET
    assert area.auth is found.auths["contractor"]
    assert area.auth.jwt.algorithms == ("RS256",)
    assert (assets.tier, rest.methods, rest.mode) == (None, None, Mode.WATCH)
    assert EXAMPLE.read_text().splitlines()[area.line - 1].lstrip().startswith("- {name: contractor-area")
    assert found.ai is not None
    assert found.ai.steps["photo_analysis"].timeout_s == 45
    assert [(b.name, b.limit_usd_micros, b.period, b.per) for b in found.ai.budgets] == [
        ("day", 20_000_000, "day", None),
        ("month", 300_000_000, "month", None),
        ("contractor-day", 2_000_000, "day", "contractor"),
    ]
    assert found.ai.budgets[0].warn_at == (0.5, 0.8, 0.95)
    assert found.promises[1].without == ("authorization",)


def test_what_is_left_out_is_strict() -> None:
    found = compiled(MINIMAL)
    assert found.server.trusted_proxies == ()
    assert found.server.limits.body_bytes == 1024**2
    assert found.admin.listen == Address("127.0.0.1", 9900)
    assert found.routes[0].body.max_bytes == 1024**2
    assert found.routes[0].mode is Mode.ENFORCE
    assert dict(found.tiers) == {"lenient": found.routes[0].tier}
    assert found.ai is None


def test_the_three_tiers_need_no_definition_and_can_be_given_another() -> None:
    for name, limit in (("strict", 10), ("moderate", 30), ("lenient", 100)):
        tier = compiled(MINIMAL.replace("lenient", name)).routes[0].tier
        assert tier is not None
        assert tier.quotas == (Quota(limit, 10_000),)
    tier = compiled(MINIMAL + "tiers: {lenient: {limit: [5 per 1s, 50 per 1m]}}\n").routes[0].tier
    assert tier is not None
    assert tier.quotas == (Quota(5, 1000), Quota(50, 60_000))
    assert tier.on_store_error is OnStoreError.LOCAL


def test_defaults_of_an_offload_and_of_steps() -> None:
    text = EXAMPLE.read_text()
    text = text.replace("    when: {status: [200, 201]}", "").replace("    starts: 10 per 1m\n", "")
    text = re.sub(r"^ai:.*?^promises:", "ai: {steps: {scope: {retries: 0}}}\npromises:", text, flags=re.S | re.M)
    found = compiled(text, ENVIRON)
    offload = found.offloads["lead-photos"]
    assert (offload.when_status, offload.starts) == ({200, 201}, Quota(10, 60_000))
    assert found.ai is not None
    assert (found.ai.steps["scope"].retries, found.ai.steps["scope"].timeout_s) == (0, 60)
    assert found.ai.breaker.failures == 5


def test_numbers_and_words_may_come_from_the_environment() -> None:
    text = MINIMAL + "server: {workers: '${W}', listen: '127.0.0.1:${PORT:-8081}', limits: {fields: '${F}'}}\n"
    found = compiled(text, {"W": "auto", "F": "50"})
    assert (found.server.workers, found.server.listen.port, found.server.limits.fields) == (None, 8081, 50)


def test_budgets_may_fail_instead_of_holding() -> None:
    found = compiled(MINIMAL + "ai: {budgets: [{name: a, limit: 0.5 USD per day, when_spent: fail}]}\n")
    assert found.ai is not None
    assert found.ai.budgets[0].when_spent is WhenSpent.FAIL


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
    review = compile_policy(text.encode(), "F", environ)
    shown = "\n".join(map(str, review.problems + review.warnings))
    assert len(review.problems) >= 9
    assert "hunter2" not in shown
    assert "'${A}' is not a duration" in shown


def test_a_policy_never_shows_its_secrets() -> None:
    assert SECRET not in repr(policy.load(EXAMPLE, ENVIRON))


def test_examine_needs_no_secret_and_load_does() -> None:
    review = policy.examine(EXAMPLE, {})
    assert review.policy is not None
    assert [warning.path for warning in review.warnings] == [
        "auth.contractor.sign_with",
        "offloads.lead-photos.deliver.secret",
    ]
    with pytest.raises(ConfigError, match="the environment has no SCOPEGATE_WEBHOOK_SECRET"):
        policy.load(EXAMPLE, {})


def test_no_file(tmp_path: Path) -> None:
    big = tmp_path / "big.yaml"
    big.write_bytes(b"# " + b"x" * 2_000_000)
    for path, sentence in (
        (tmp_path / "none.yaml", "no such file"),
        (big / "below", "no such file"),
        (tmp_path, "this is a directory, not a policy file"),
        (big, "the file is larger than 1024 KiB"),
        (tmp_path / ("x" * 300), "the file cannot be read: File name too long"),
    ):
        with pytest.raises(ConfigError) as caught:
            policy.load(path, {})
        assert caught.value.problems[0].where.startswith(str(path))
        assert caught.value.problems[0].what == sentence


def test_a_file_that_may_not_be_read() -> None:
    """As an unprivileged user, in a process of its own: root may read everything."""
    script = """
import os, sys, tempfile
from scopegate import policy
from scopegate.errors import ConfigError
with tempfile.NamedTemporaryFile() as file:
    os.chmod(file.name, 0)
    if os.getuid() == 0:
        os.seteuid(65534)
    try:
        policy.load(file.name, {})
    except ConfigError as error:
        print(error.problems[0].what)
    os.seteuid(os.getuid())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "the file may not be read by this user\n"


def test_every_field_is_described() -> None:
    schema = Document.model_json_schema()
    sections = [schema, *(section for section in schema["$defs"].values() if "properties" in section)]
    assert len(sections) > 20
    for section in sections:
        assert section["additionalProperties"] is False
        for name, field in section["properties"].items():
            assert field.get("description"), f"{section['title']}.{name}"


def test_loading_a_policy_imports_nothing_heavy() -> None:
    script = "import sys, scopegate.policy; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    heavy = {"anthropic", "httpx", "httpx2", "redis", "arq", "sqlalchemy", "starlette", "uvicorn", "prometheus_client"}
    assert heavy & set(done.stdout.split()) == set()
    assert {"pydantic", "yaml", "jmespath"} <= set(done.stdout.split())
