"""What `scopegate up` decides before it starts anything. The running whole is in `tests/flows/test_up.py`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scopegate import settings as environment
from scopegate.cli import ports, role, up
from scopegate.cli.gateway import Ports
from scopegate.demo.stage import clean
from scopegate.policy.policy import Policy
from scopegate.stores.embedded import EmbeddedValkey
from scopegate.supervise.supervisor import Child
from tests import policies

ROOT = Path(__file__).parents[2]
SECRETS = {"SCOPEGATE_WEBHOOK_SECRET": "a secret of the test"}


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "version: 1\nserver: {listen: 127.0.0.1:8080, workers: 3}\n"
        'upstreams: {web: {servers: ["http://127.0.0.1:3000", "http://127.0.0.1:3001"]}}\n'
        "routes: [{name: all, match: ANY /**, tier: none}]\n"
    )
    return policies.load(path, {})


@pytest.fixture
def sockets() -> Iterator[up.Sockets]:
    with socket.create_server(("127.0.0.1", 0)) as public, socket.create_server(("127.0.0.1", 0)) as private:
        yield up.Sockets(Ports(public), private)


def test_one_state_directory_serves_one_up(tmp_path: Path) -> None:
    with up.lock(tmp_path), pytest.raises(up.StateDirTaken, match=rf"in use .* \(pid {os.getpid()}\)"):
        up.lock(tmp_path)
    up.lock(tmp_path).close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "up.lock").symlink_to("/dev/full")
    config = tmp_path / "gateway.yaml"
    config.write_text(
        'version: 1\nupstreams: {web: {servers: ["http://127.0.0.1:3000"]}}\n'
        "routes: [{name: all, match: ANY /**, tier: none}]\n"
    )
    command = [sys.executable, "-m", "scopegate", "up", "-c", str(config)]
    env = clean(os.environ) | {"SCOPEGATE_STATE_DIR": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"scopegate: the state directory {tmp_path} cannot be used: ")


def test_a_log_that_cannot_be_opened_is_said_before_anything_starts(tmp_path: Path) -> None:
    child = Child("engine", ("engine",), {}, output=tmp_path / "absent" / "engine.log")
    with pytest.raises(role.StateDirUnusable, match=f"state directory {tmp_path} cannot be used: No such file"):
        up.open_logs([child], tmp_path)


def test_the_lock_does_not_outlive_its_process(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\nfrom scopegate.cli import up\nheld = up.lock(pathlib.Path(sys.argv[1]))\nos._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=20, check=False).returncode == 9
    up.lock(tmp_path).close()


def test_with_an_engine_of_ours_all_start_after_it_and_are_told_where_it_is(
    tmp_path: Path, policy: Policy, sockets: up.Sockets
) -> None:
    engine = EmbeddedValkey(Path("/usr/bin/valkey-server"), tmp_path)
    settings = environment.load({})
    found = {child.name: child for child in up.children(Path("g.yaml"), settings, policy, tmp_path, sockets, engine)}
    assert list(found) == ["gateway-1", "gateway-2", "gateway-3", "worker", "admin", "valkey"]
    assert {child.after for name, child in found.items() if name != "valkey"} == {("valkey",)}
    assert {child.env["REDIS_URL"] for child in found.values()} == {engine.url}
    assert {child.env["SCOPEGATE_STATE_DIR"] for child in found.values()} == {str(tmp_path)}
    assert found["gateway-2"].pass_fds == (sockets.gateway.public.fileno(),)
    copy = str(tmp_path / "gateway" / "policy-copy.json")
    assert found["gateway-2"].argv[-6:] == (
        "-c",
        "g.yaml",
        "--copy",
        copy,
        "--fd",
        str(sockets.gateway.public.fileno()),
    )
    assert {child.rule.served_max_delay_s for name, child in found.items() if child.rule is not None} == {1.0}
    assert [name for name, child in found.items() if child.rule is not None] == ["gateway-1", "gateway-2", "gateway-3"]
    assert found["admin"].argv[-2:] == ("--fd", str(sockets.private.fileno()))
    assert found["admin"].pass_fds == (sockets.private.fileno(),)
    assert found["worker"].argv[-5:] == ("worker", "-c", "g.yaml", "--copy", copy)
    assert not found["valkey"].ours


def test_with_a_redis_of_theirs_there_is_none_of_ours(tmp_path: Path, policy: Policy, sockets: up.Sockets) -> None:
    settings = environment.load({"REDIS_URL": "redis://10.0.0.5:6379/0"})
    assert up.find_engine(settings, tmp_path) is None
    found = up.children(Path("g.yaml"), settings, policy, tmp_path, sockets, None)
    assert [child.name for child in found] == ["gateway-1", "gateway-2", "gateway-3", "worker", "admin"]
    assert {child.after for child in found} == {()}
    assert {child.env["REDIS_URL"] for child in found} == {"redis://10.0.0.5:6379/0"}


def test_without_any_redis_one_gateway_process_counts(tmp_path: Path, policy: Policy, sockets: up.Sockets) -> None:
    found = up.children(Path("g.yaml"), environment.load({}), policy, tmp_path, sockets, None)
    assert [child.name for child in found] == ["gateway", "worker", "admin"]


def test_the_announcement_says_what_runs_where_and_no_secret(tmp_path: Path, policy: Policy) -> None:
    urls = {"REDIS_URL": "redis://:hunter2@10.0.0.5/0", "DATABASE_URL": "postgresql://u:hunter2@db/scopegate"}
    text = up.announcement(environment.load(urls), policy, tmp_path, None)
    assert "http://127.0.0.1:8080  ->  http://127.0.0.1:3000, http://127.0.0.1:3001" in text
    assert "http://127.0.0.1:9900" in text
    assert "hunter2" not in text
    embedded = up.announcement(environment.load({}), policy, tmp_path, EmbeddedValkey(Path("/x"), tmp_path))
    assert "embedded Valkey" in embedded
    assert str(tmp_path / "scopegate.db") in embedded
    assert "limits count in memory" in up.announcement(environment.load({}), policy, tmp_path, None)


# ── the file at the root ────────────────────────────────────────────────────────────────────────────────────────────
def test_the_default_policy_is_fine_as_it_is() -> None:
    review = policies.examine(ROOT / "gateway.yaml", {})
    assert list(review.problems) == []
    assert policies.load(ROOT / "gateway.yaml", {}).offloads == {}


def test_the_default_policys_offload_can_be_switched_on_as_it_says(tmp_path: Path) -> None:
    text = (ROOT / "gateway.yaml").read_text()
    start = text.index("# offloads:")
    end = text.index("\n\n", start)
    text = text[:start] + re.sub(r"^# ?", "", text[start:end], flags=re.M) + text[end:]
    text = text.replace("    # offload: lead-photos", "    offload: lead-photos")
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    policy = policies.load(path, SECRETS)
    assert [route.offload.name for route in policy.routes if route.offload] == ["lead-photos"]


def test_the_default_policy_takes_its_addresses_from_the_environment() -> None:
    environ = {"LISTEN": "127.0.0.1:81", "ADMIN_LISTEN": "127.0.0.1:82", "APP_URL": "http://app:83"}
    policy = policies.load(ROOT / "gateway.yaml", environ)
    assert ports.shown(policy.server.listen) == "127.0.0.1:81"
    assert ports.shown(policy.admin.listen) == "127.0.0.1:82"
    assert policy.upstreams["web"].servers[0].authority == "app:83"
