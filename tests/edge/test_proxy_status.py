"""Proxy-Status: every refusal the source can make has a registered type, and nothing else has one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import scopegate
from scopegate.edge.proxy_status import ERRORS, status_line
from scopegate.errors import UpstreamErrorKind

SOURCE = Path(scopegate.__file__).parent

REGISTERED = frozenset(
    word
    for line in (
        "dns_timeout dns_error destination_not_found destination_unavailable destination_ip_prohibited",
        "destination_ip_unroutable connection_refused connection_terminated connection_timeout connection_read_timeout",
        "connection_write_timeout connection_limit_reached tls_protocol_error tls_certificate_error tls_alert_received",
        "http_request_error http_request_denied http_response_incomplete http_response_header_section_size",
        "http_response_header_size http_response_body_size http_response_trailer_section_size",
        "http_response_trailer_size",
        "http_response_transfer_coding http_response_content_coding http_response_timeout http_upgrade_failed",
        "http_protocol_error proxy_internal_response proxy_internal_error proxy_configuration_error",
        "proxy_loop_detected",
    )
    for word in line.split()
)
"""RFC 9209 2.3, all of them."""

CODE = re.compile(r"[a-z]+(_[a-z]+)*")
MAKERS = {"Refusal", "_refused", "_turn_away"}
"""Calls that make a refusal. The first text of this form among their arguments is its code."""


def codes() -> Iterator[str]:
    """Every code written down in the source; upstream kinds are put together at run time."""
    for folder in ("edge", "gateway"):
        for path in sorted((SOURCE / folder).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    yield from _code_of(node)
    yield from (f"upstream_{kind}" for kind in get_args(UpstreamErrorKind))


def _code_of(call: ast.Call) -> Iterator[str]:
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    if name in MAKERS:
        texts = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        yield from [text for text in texts if CODE.fullmatch(text)][:1]


def test_the_source_is_read_for_its_codes() -> None:
    found = set(codes())
    assert {"bad_syntax", "bad_host", "overloaded", "rate_limited", "unauthenticated", "upstream_timeout"} <= found


def test_every_refusal_has_a_type_and_every_type_a_refusal() -> None:
    assert set(codes()) == set(ERRORS)


def test_types_are_registered_ones() -> None:
    assert set(ERRORS.values()) <= REGISTERED


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("rate_limited", "http_request_denied"),
        ("bad_syntax", "http_request_error"),
        ("no_route", "destination_not_found"),
        ("upstream_connect", "connection_refused"),
        ("upstream_timeout", "http_response_timeout"),
        ("upstream_reset", "connection_terminated"),
        ("upstream_protocol", "http_protocol_error"),
        ("overloaded", "connection_limit_reached"),
        ("internal", "proxy_internal_error"),
    ],
)
def test_the_field(code: str, error: str) -> None:
    assert status_line(code) == f'proxy-status: scopegate; error={error}; details="{code}"\r\n'.encode()


def test_a_code_that_is_not_in_the_table_still_makes_a_field() -> None:
    assert status_line("never heard of") == b"proxy-status: scopegate; error=proxy_internal_error\r\n"
