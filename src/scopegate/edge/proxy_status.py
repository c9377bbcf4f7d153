"""What a refusal says to whoever debugs a chain of proxies: the Proxy-Status field (RFC 9209).

Pure, and a closed table: from the code of every refusal that the gateway makes to the registered error type that comes
nearest; `details` is the code itself. The field of an app's own answer is not ours and passes.
"""

from __future__ import annotations

from collections.abc import Mapping

NAME = "scopegate"

_CODES_BY_ERROR: Mapping[str, str] = {
    # the request itself (2.3.16): it means nothing, or nothing that can be served
    "http_request_error": """ambiguous_path bad_connection bad_framing bad_handshake bad_host bad_idempotency_key
        bad_json bad_method bad_multipart bad_path bad_proxy_header bad_syntax bad_target body_timeout body_too_large
        expectation_failed file_too_large head_timeout head_too_large json_too_deep json_too_large key_ambiguous
        key_missing idempotency_key_reused lead_taken lead_under_way lead_unreadable method_not_allowed
        method_not_implemented schema_violation target_too_long too_many_fields too_many_files too_many_parts
        unsupported_encoding unsupported_type version_not_supported websocket_version""",
    # the policy (2.3.15): it could be served, and is not
    "http_request_denied": """banned denied forbidden misdirected_request only_if_cached origin_not_allowed
        rate_limited read_only unauthenticated""",
    "destination_not_found": "no_route",
    "connection_limit_reached": "overloaded too_many_at_once too_many_connections too_many_streams upstream_busy",
    "destination_unavailable": "maintenance upstream_open",
    "connection_refused": "upstream_connect",
    "connection_terminated": "upstream_reset",
    "tls_protocol_error": "upstream_tls",
    "http_protocol_error": "upstream_protocol",
    "http_response_timeout": "upstream_timeout",
    # what the gateway itself needs, and does not have right now (2.3.31)
    "proxy_internal_error": "identity_unavailable intake_down intake_full internal limit_store_down stopping",
}

ERRORS: Mapping[str, str] = {code: error for error, codes in _CODES_BY_ERROR.items() for code in codes.split()}
"""From a refusal's code to the registered type (RFC 9209 2.3)."""

_LINES: Mapping[str, bytes] = {
    code: f'proxy-status: {NAME}; error={error}; details="{code}"\r\n'.encode() for code, error in ERRORS.items()
}
_INTERNAL = f"proxy-status: {NAME}; error=proxy_internal_error\r\n".encode()


def status_line(code: str) -> bytes:
    """The field line for a refusal with this code. A code that the table lacks is a bug of ours, and says so."""
    return _LINES.get(code, _INTERNAL)
