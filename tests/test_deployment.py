"""The image, its locked requirements and the composition: what can be held without a container engine."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scopegate import settings
from tests.grafana.test_prometheus import first_line, start

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
IMAGE_EXTRAS = ("embedded", "postgres")


# ── requirements.lock ───────────────────────────────────────────────────────────────────────────────────────────────
def locked() -> dict[str, Requirement]:
    joined = LOCK.replace("\\\n", " ")
    entries = (Requirement(line.split("--hash")[0].strip()) for line in joined.splitlines() if line.strip())
    return {canonicalize_name(entry.name): entry for entry in entries}


def version(entry: Requirement) -> str:
    [pin] = entry.specifier
    assert pin.operator == "=="
    return pin.version


def wanted() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for extra in IMAGE_EXTRAS for text in project["optional-dependencies"][extra]]
    return [Requirement(text) for text in project["dependencies"] + extras]


def test_every_line_of_the_lock_is_a_pin_with_hashes_and_names_no_host() -> None:
    for line in LOCK.replace("\\\n", " ").splitlines():
        assert re.fullmatch(r"[a-z0-9-]+==[^ ;]+( ; [^#]+?)?( +--hash=sha256:[0-9a-f]{64})+", line), line[:100]
    assert "://" not in LOCK
    assert "--index" not in LOCK
    assert "pypi" not in LOCK.lower()


@pytest.mark.parametrize("requirement", wanted(), ids=lambda requirement: requirement.name)
def test_the_lock_holds_what_the_project_asks_for(requirement: Requirement) -> None:
    entry = locked()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version(entry), prereleases=True)


def test_the_lock_is_complete() -> None:
    """Walk what the installed distributions ask for, from the project's own list."""
    entries, seen = locked(), set()
    environment: dict[str, str] = {name: str(value) for name, value in default_environment().items()}
    todo = [(requirement, extra) for requirement in wanted() for extra in requirement.extras | {""}]
    while todo:
        requirement, extra = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        assert name in entries, f"{name} is missing: compile the lock again"
        for text in importlib.metadata.requires(name) or []:
            inner = Requirement(text)
            if inner.marker is None or inner.marker.evaluate({**environment, "extra": extra}):
                todo += [(inner, e) for e in inner.extras | {""}]
    assert len(seen) > 30


def test_nothing_of_development_is_locked() -> None:
    assert not {"pytest", "mypy", "ruff", "hypothesis", "coverage"} & set(locked())


# ── Dockerfile ──────────────────────────────────────────────────────────────────────────────────────────────────────
def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def last_stage() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for word, rest in instructions():
        if word == "FROM":
            found = {}
        found.setdefault(word, []).append(rest)
    return found


def test_the_image_has_two_stages_the_last_on_a_slim_base() -> None:
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert len(bases) == 2
    assert bases == ["python:3.11-bookworm", "python:3.11-slim-bookworm"], "the first has a compiler"


def test_the_image_runs_as_nobody_special_and_stops_on_sigterm() -> None:
    stage = last_stage()
    assert stage["USER"] == ["10001:10001"]
    assert stage["STOPSIGNAL"] == ["SIGTERM"]
    assert stage["ENTRYPOINT"] == ['["python", "-m", "scopegate"]']
    assert stage["CMD"] == ['["up", "-c", "/etc/scopegate/gateway.yaml"]']
    assert stage["VOLUME"] == ["/var/lib/scopegate"]
    assert stage["EXPOSE"] == ["8080"]


def test_the_image_installs_by_hash_only_and_fetches_nothing_else() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert text.count("pip install") == 2
    for lock in ("requirements.lock", "requirements-build.lock"):
        assert f"--require-hashes --only-binary :all: -r /tmp/{lock}" in text
    for word in ("curl", "wget", "apt", "ADD ", "http://deb", "--index", "SECRET", "PASSWORD", "TOKEN"):
        assert word not in text


def is_ignored(path: str) -> bool:
    """As .dockerignore says: the last line that matches wins."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            keep, pattern = line.startswith("!"), line.removeprefix("!")
            parts = Path(path).parts
            matches = any(fnmatch("/".join(parts[:n]), pattern) for n in range(1, len(parts) + 1))
            if matches or (pattern.startswith("**/") and fnmatch(parts[-1], pattern[3:])):
                ignored = not keep
    return ignored


def test_what_is_copied_is_there_and_reaches_the_build() -> None:
    sources = [rest.split()[0] for word, rest in instructions() if word == "COPY" and not rest.startswith("--from")]
    assert set(sources) == {"requirements.lock", "requirements-build.lock", "hatch_build.py", "src", "gateway.yaml"}
    for source in sources:
        assert (ROOT / source).exists()
        assert not is_ignored(source)


@pytest.mark.parametrize(
    "path",
    [".git/config", ".env", ".scopegate/scopegate.db", ".venv/bin/python", "tests/engines.py", "compose.yaml",
     "id_rsa", "src/scopegate/__pycache__"],
)  # fmt: skip
def test_nothing_else_reaches_the_build(path: str) -> None:
    assert is_ignored(path)


# ── health checks, run for real ─────────────────────────────────────────────────────────────────────────────────────
def image_check() -> list[str]:
    [rest] = last_stage()["HEALTHCHECK"]
    return list(yaml.safe_load(rest.split("CMD ", 1)[1]))


def run(check: list[str], port: int) -> int:
    assert check[0] == "python"
    code = check[-1].replace("9900", str(port)).replace("8080", str(port))
    environ = {"PYTHONPATH": str(ROOT / "src"), "HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"}
    return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, timeout=20).returncode


def test_health_checks_pass_beside_a_living_admin_and_fail_without(tmp_path: Path) -> None:
    services = composition()["services"]
    checks = [
        image_check(),
        services["admin"]["healthcheck"]["test"][1:],
        services["gateway"]["healthcheck"]["test"][1:],
    ]
    with ExitStack() as scene:
        port = int(first_line(start(scene, "admin", tmp_path / "metrics")))
        assert [run(check, port) for check in checks] == [0, 0, 0]
    assert [run(check, port) for check in checks] == [1, 1, 1]


def test_the_worker_s_check_sees_a_living_worker(tmp_path: Path) -> None:
    check = composition()["services"]["worker"]["healthcheck"]["test"][1:]
    check = [*check[:-1], check[-1].replace("/var/lib/scopegate", str(tmp_path))]
    assert run(check, 0) == 1
    with ExitStack() as scene:
        assert first_line(start(scene, "worker", tmp_path / "metrics")) == "ready"
        assert run(check, 0) == 0
    assert run(check, 0) == 1


# ── compose.yaml ────────────────────────────────────────────────────────────────────────────────────────────────────
def composition() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return loaded


SERVICES = composition()["services"]
OURS = ("gateway", "worker", "admin")


def test_all_seven_are_there() -> None:
    assert set(SERVICES) == {*OURS, "valkey", "postgres", "prometheus", "grafana"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert "privileged" not in service
    assert set(service.get("cap_add", [])) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
    if name not in OURS:
        image, _, tag = service["image"].partition(":")
        assert tag, f"{image} must name a version"
        assert tag != "latest"


def test_only_the_gateway_and_grafana_are_published() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "gateway": ["${GATEWAY_PORT:-8080}:8080"],
        "grafana": ["127.0.0.1:${GRAFANA_PORT:-3300}:3000"],
    }


def test_data_and_metrics_stay_inside() -> None:
    networks = composition()["networks"]
    assert networks["data"]["internal"]
    assert networks["watch"]["internal"]
    for name in ("valkey", "postgres"):
        assert SERVICES[name]["networks"] == ["data"]
    assert SERVICES["admin"]["networks"] == ["watch", "data"]
    assert SERVICES["prometheus"]["networks"] == ["watch"]


def test_no_secret_has_a_value_or_a_default() -> None:
    text = (ROOT / "compose.yaml").read_text()
    for name, operator, rest in re.findall(r"\$\{(\w+)(:[?-])([^}]*)\}", text):
        if re.search(r"PASSWORD|TOKEN|SECRET|KEY", name):
            assert operator == ":?" or rest == "", name
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN|SECRET|KEY|_URL$", variable) and variable != "PROMETHEUS_URL":
                assert "${" in value, variable
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert required == {
        "APP_URL", "SCOPEGATE_ADMIN_TOKEN", "VALKEY_PASSWORD", "POSTGRES_PASSWORD", "GRAFANA_ADMIN_PASSWORD",
    }  # fmt: skip


def test_the_settings_it_gives_exist_and_are_valid() -> None:
    values = {"VALKEY_PASSWORD": "v" * 24, "POSTGRES_PASSWORD": "p" * 24, "SCOPEGATE_ADMIN_TOKEN": "t" * 24}
    values["APP_URL"] = "http://host.docker.internal:3000"
    for name in OURS:
        environ = {
            variable: re.sub(r"\$\{(\w+)[^}]*\}", lambda match: values.get(match[1], ""), value)
            for variable, value in SERVICES[name]["environment"].items()
        }
        loaded = settings.load({**environ, "SCOPEGATE_STATE_DIR": "/var/lib/scopegate", "SCOPEGATE_LOG_FORMAT": "json"})
        assert loaded.redis_url == "redis://:" + "v" * 24 + "@valkey:6379/0"
        assert loaded.database == "postgresql+asyncpg://scopegate:" + "p" * 24 + "@postgres:5432/scopegate"


def test_every_variable_of_the_policy_is_given() -> None:
    lines = [line for line in (ROOT / "gateway.yaml").read_text().splitlines() if not line.startswith("#")]
    named = set(re.findall(r"\$\{(\w+)", "\n".join(lines)))
    assert {"APP_URL", "LISTEN", "ADMIN_LISTEN"} <= named
    for name in OURS:
        assert named <= set(SERVICES[name]["environment"])


def test_only_the_worker_holds_the_model_s_key() -> None:
    assert [name for name in SERVICES if "ANTHROPIC_API_KEY" in SERVICES[name].get("environment", {})] == ["worker"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_mounts_and_waits_for_is_there(name: str) -> None:
    declared = composition()
    for mount in SERVICES[name].get("volumes", []):
        source, _, target = mount.partition(":")
        if source.startswith("./"):
            assert (ROOT / source).exists(), source
            assert target.endswith(":ro")
        else:
            assert source in declared["volumes"]
    assert set(SERVICES[name]["networks"]) <= set(declared["networks"])
    for other, condition in SERVICES[name].get("depends_on", {}).items():
        assert condition == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[other]


def test_the_three_roles_share_one_metrics_volume_and_run_their_command() -> None:
    for name in OURS:
        assert SERVICES[name]["command"][0] == name
        assert "state:/var/lib/scopegate" in SERVICES[name]["volumes"]


def test_prometheus_reads_its_token_and_rules_where_compose_puts_them() -> None:
    config = yaml.safe_load((ROOT / "grafana/prometheus/prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    script = SERVICES["prometheus"]["command"][0]
    assert job["authorization"]["credentials_file"] in script
    assert job["static_configs"] == [{"targets": ["admin:9900"]}]
    mounted = {mount.split(":")[1] for mount in SERVICES["prometheus"]["volumes"]}
    assert {f"/etc/prometheus/{name}" for name in config["rule_files"]} <= mounted


def test_shell_commands_are_shell(tmp_path: Path) -> None:
    """`$$` is compose's way to write `$`."""
    scripts = [SERVICES["prometheus"]["command"][0], SERVICES["valkey"]["command"][-1]]
    scripts.append(SERVICES["valkey"]["healthcheck"]["test"][1])
    for script in scripts:
        assert subprocess.run(["sh", "-n", "-c", script.replace("$$", "$")]).returncode == 0
    token = tmp_path / "token"
    first = scripts[0].split("&&")[:2]
    written = "&&".join(first).replace("$$", "$").replace("/run/secrets/scopegate_admin_token", shlex.quote(str(token)))
    subprocess.run(["sh", "-c", written], env={"SCOPEGATE_ADMIN_TOKEN": "a token with $pecial %s"}, check=True)
    assert token.read_text() == "a token with $pecial %s"
    assert token.stat().st_mode & 0o077 == 0


def test_the_policy_is_mounted_with_its_folder() -> None:
    """A bind mount of one file keeps the inode it began with."""
    for name in OURS:
        [mount] = [mount for mount in SERVICES[name]["volumes"] if "/etc/scopegate" in mount]
        source, target = mount.removesuffix(":ro").rsplit(":", 1)
        assert (ROOT / source).samefile(ROOT)
        assert mount.endswith(":ro")
        assert (ROOT / "gateway.yaml").is_file()
        command = SERVICES[name]["command"]
        assert Path(command[command.index("-c") + 1]) == Path(target) / "gateway.yaml"
