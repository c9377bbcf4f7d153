"""All the tables together."""

from __future__ import annotations

from tests.gateway.raw import (
    cases_chunks,
    cases_fields,
    cases_framing,
    cases_host,
    cases_request_line,
    cases_sequences,
    cases_target,
)
from tests.gateway.raw.case import Case, Refused

CODINGS = [
    Case(f"coding {name}", cases_framing.coding(value), (Refused(400, "bad_syntax, bad_framing"),))
    for name, value in cases_framing.CODINGS.items()
]
CASES: dict[str, Case] = {
    f"{topic}: {case.name}": case
    for topic, cases in {
        "line": cases_request_line.CASES,
        "target": cases_target.CASES,
        "host": cases_host.CASES,
        "field": cases_fields.CASES,
        "framing": [*cases_framing.CASES, *CODINGS],
        "chunks": cases_chunks.CASES,
        "sequence": cases_sequences.CASES,
    }.items()
    for case in cases
}
