"""Lists of clients: `allow` and `deny` of a tier, inline or one entry a line in a file.

Pure. Called by `tiers`, and by `document` for the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator

from scopegate.policy.addresses import Network, parse_client_network
from scopegate.policy.draft import Draft
from scopegate.policy.kinds import as_list, parsed, written
from scopegate.policy.sections.keys import KeyKind, KeyPart, parse_key
from scopegate.policy.sections.server import ServerShape
from scopegate.policy.sidefiles import FilePlace, SideFiles
from scopegate.policy.tree import Fault
from scopegate.types import Json

_LISTED = frozenset({KeyKind.USER, KeyKind.HEADER, KeyKind.COOKIE, KeyKind.CLAIM})
_SHA256 = "sha256:"


@dataclass(frozen=True, slots=True)
class ClientValue:
    """Whoever comes with this value of a part; `is_hash`: it is the hex SHA-256 of that value."""

    part: KeyPart
    value: str
    is_hash: bool = False


@dataclass(frozen=True, slots=True)
class ClientList:
    """Clients by their networks, or by what they come with."""

    networks: tuple[Network, ...] = ()
    values: tuple[ClientValue, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.networks or self.values)


NO_CLIENTS = ClientList()


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry as written. `part` is None for `api_key`, of which the tier says where it is read."""

    network: Network | None = None
    part: KeyPart | None = None
    value: str = ""
    is_hash: bool = False


def parse_entry(text: str) -> Listed:
    """`192.0.2.0/24`, `user=alice`, `header:X-Tenant=acme`, `api_key=sha256:...`."""
    word, equals, value = text.partition("=")
    if not equals:
        return Listed(parse_client_network(text))
    part = parse_key(word)
    if part is not None and part.kind not in _LISTED:
        raise ValueError(f"has nothing that can be listed before its =: write a network, or {_listed_words()}")
    if not value or not value.isprintable():
        raise ValueError("lacks a value after its =")
    is_hash = value.startswith(_SHA256)
    if is_hash and not re.fullmatch(r"[0-9a-f]{64}", value.removeprefix(_SHA256), re.ASCII):
        raise ValueError("is no SHA-256: 64 hex digits in lower case")
    if part is None and not is_hash:
        raise ValueError("holds an API key: write its hash, api_key=sha256:HEX")
    return Listed(None, part, value.removeprefix(_SHA256) if is_hash else value, is_hash)


def _listed_words() -> str:
    return "user=NAME, header:NAME=VALUE, cookie:NAME=VALUE, claim:NAME=VALUE, api_key=sha256:HEX"


def parse_file(content: bytes) -> Json:
    """One entry a line, `#` begins a remark. A last line without an end may be half of one: `192.0.2.0/2` of a /24."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    if text and not text.endswith("\n"):
        raise ValueError("may be half written: its last line has no end")
    found: list[Json] = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0].strip()
        if entry:
            try:
                parse_entry(entry)
            except ValueError as error:
                raise ValueError(f"line {number} {error}") from None
            found.append(entry)
    return found


def _files(key: str) -> FilePlace:
    """The files that tiers name under this key."""
    return FilePlace(("tiers", str, key), parse_file)


ALLOWED, DENIED = _files("allow_file"), _files("deny_file")

ListedOne: TypeAlias = Annotated[Listed, parsed(parse_entry), written("192.0.2.0/24")]
ListedOnes: TypeAlias = Annotated[
    list[ListedOne], BeforeValidator(as_list, json_schema_input_type=ListedOne | list[ListedOne])
]


def listed_in(file: str | None, place: FilePlace, beside: SideFiles) -> list[Listed]:
    """What a file lists; it has no faults."""
    found = [] if file is None else beside.meanings[file, place]
    assert isinstance(found, list)
    return [parse_entry(str(entry)) for entry in found]


def clients(entries: Iterable[Listed], api_key: KeyPart) -> ClientList:
    """All of them together."""
    networks: list[Network] = []
    values: list[ClientValue] = []
    for entry in entries:
        if entry.network is not None:
            networks.append(entry.network)
        else:
            values.append(ClientValue(entry.part or api_key, entry.value, entry.is_hash))
    return ClientList(tuple(networks), tuple(values))


def proxies_denied(draft: Draft, beside: SideFiles) -> Iterator[Fault]:
    """ListedOnes that hold a trusted proxy: whoever it does not tell an address for comes from there."""
    server = draft.one("server", ServerShape)
    trusted = () if server is None else server.trusted_proxies
    what = "holds a trusted proxy, from which all visitors come"
    for loc, text in [*draft.texts(("tiers", str, "deny")), *draft.texts(("tiers", str, "deny", int))]:
        if _holds_one(text, trusted):
            yield draft.problem(loc, f"{draft.said(loc)} {what}")
    for loc, file in draft.texts(DENIED.way):
        entries = beside.meanings.get((file, DENIED))
        if isinstance(entries, list) and any(_holds_one(str(entry), trusted) for entry in entries):
            yield draft.problem(loc, f"{draft.said(loc)} has an entry that {what}")


def _holds_one(text: str, trusted: Sequence[Network]) -> bool:
    try:
        network = parse_entry(text).network
    except ValueError:
        return False  # its shape says so
    return network is not None and any(
        network.version == other.version and network.overlaps(other) for other in trusted
    )
