"""HTTPS with nothing in front: `scopegate up` on two ports, a challenge of an ACME client, and OpenSSL's own client."""

from __future__ import annotations

import http.client
import signal
import subprocess
from pathlib import Path

from tests.authority import Authority
from tests.flows.processes import scopegate, wait_until
from tests.ports import free_addresses

POLICY = """\
version: 1
server:
  listen: {public}
  hosts: [a.example]
  tls: [{{cert: {cert}, key: {key}}}]
  redirect: {{listen: "{plain}", port: {port}, webroot: {webroot}}}
  timeouts: {{drain: 2s}}
admin: {{listen: "{admin}"}}
upstreams: {{web: {{servers: ["http://{app}"]}}}}
routes: [{{name: all, match: ANY /**, tier: none}}]
"""


def asked(address: str, path: str) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": "a.example"})
        answer = connection.getresponse()
        return answer.status, answer.getheader("location"), answer.read()
    finally:
        connection.close()


def is_closed(address: str) -> bool:
    try:
        asked(address, "/")
    except ConnectionRefusedError:
        return True
    return False


def test_port_80_sends_visitors_to_https_and_answers_challenges(tmp_path: Path) -> None:
    public, plain, admin, app = free_addresses(4)
    authority = Authority(tmp_path)
    identity = authority.issue("a.example")
    port = public.rpartition(":")[2]
    (tmp_path / "gateway.yaml").write_text(
        POLICY.format(
            public=public, plain=plain, admin=admin, app=app, port=port,
            cert=identity.cert, key=identity.key, webroot=tmp_path / "acme",
        )
    )  # fmt: skip
    challenges = tmp_path / "acme/.well-known/acme-challenge"
    with scopegate(["up"], tmp_path, {}) as running:
        lines = running.first_lines(3)
        assert lines[1].split() == ["gateway", f"https://{public}", "->", f"http://{app}"]
        assert lines[2].split() == ["redirect", f"http://{plain}", "->", "port", port]
        assert asked(plain, "/a?b") == (301, f"https://a.example:{port}/a?b", b"")
        challenges.mkdir(parents=True)
        (challenges / "token").write_text("token.thumbprint")
        assert asked(plain, "/.well-known/acme-challenge/token") == (200, None, b"token.thumbprint")
        trust = ["-servername", "a.example", "-CAfile", str(authority.file)]
        command = ["openssl", "s_client", "-connect", public, *trust]
        shown = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert "Verify return code: 0 (ok)" in shown.stdout
        for name in ("\xe4.example", "\xe4.example", "\xe9.example"):  # Python cannot tell us of such a name
            command = ["openssl", "s_client", "-connect", public, "-servername", name]
            refused = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            assert b"no peer certificate available" in refused.stdout
        assert wait_until(lambda: running.events("error.unraisable"))
        before = running.pids()["gateway"]
        running.process.send_signal(signal.SIGUSR2)  # the gateway is replaced on the same sockets
        assert wait_until(lambda: [one["pid"] for one in running.events("child.ended")] == [before])
        assert asked(plain, "/")[0] == 301
        assert running.stop() == 0
        assert is_closed(plain)
        assert is_closed(public)
    assert len(running.events("error.unraisable")) == 1
    assert all(line.startswith("{") for line in running.errors.read_text().splitlines())
