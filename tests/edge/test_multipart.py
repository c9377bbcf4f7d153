"""Forms as they stream: good ones pass at every split, bad ones are refused at every split, limits are exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scopegate.edge.multipart import BOUNDARY, MAX_PART_HEAD_BYTES, MultipartReader
from scopegate.edge.verdict import Refusal
from scopegate.policy.policy import MultipartRule
from tests.growth import LINEAR, growth

RULE = MultipartRule(max_parts=4, max_files=2, max_file_bytes=10)
FIELD = b'Content-Disposition: form-data; name="a"'
FILE = b'Content-Disposition: form-data; name="f"; filename="x.jpg"'


def part(content: bytes = b"v", *lines: bytes) -> bytes:
    return b"--B\r\n" + b"".join(line + b"\r\n" for line in lines or (FIELD,)) + b"\r\n" + content + b"\r\n"


def form(*parts: bytes, end: bytes = b"--B--\r\n") -> bytes:
    return b"".join(parts) + end


def with_disposition(rest: bytes) -> bytes:
    return form(part(b"v", b"Content-Disposition: " + rest))


GOOD: dict[str, bytes] = {
    "one field": form(part()),
    "no CRLF at the end": form(part(), end=b"--B--"),
    "no parts": b"--B--\r\n",
    "no parts, no CRLF": b"--B--",
    "empty content": form(part(b"")),
    "a file": form(part(b"0123456789", FILE, b"Content-Type: image/jpeg")),
    "an empty file": form(part(b"", FILE.replace(b"x.jpg", b""), b"Content-Type: application/octet-stream")),
    "as many as allowed": form(part(), part(b"0123456789", FILE), part(b"x", FILE), part()),
    "a long field": form(part(b"x" * 1000)),
    "content of line ends": form(part(b"\r\n\r\n\r\n--\r\n-\r\n")),
    "content that begins like a delimiter": form(part(b"\r\n--A\r\n--\r\n--b--")),
    "dashes before the delimiter": form(part(b"--\r\n-")),
    "all bytes": form(part(bytes(range(256)))),
    "fields in any case": form(part(b"v", b'content-disposition: Form-Data; NAME="a"', b"CONTENT-TYPE: text/plain")),
    "no space after the colon": form(part(b"v", b'Content-Disposition:form-data;name="a"')),
    "spaces around": form(part(b"v", b'Content-Disposition: \tform-data ; name="a" ;\tfilename="b" \t')),
    "a token for a name": with_disposition(b"form-data; name=a"),
    "an empty name": with_disposition(b'form-data; name=""'),
    "UTF-8": with_disposition('form-data; name="ü"; filename="日本.jpg"'.encode()),
    "escapes as browsers write them": with_disposition(b'form-data; name="a%22b"; filename="a%0D%0Ab"'),
    "semicolons in quotes": with_disposition(b'form-data; name="a; b=c"; filename="x; y; rename=z.jpg"'),
    "apostrophes in quotes": with_disposition(b'form-data; name="it\'s"'),
    "a backslash": with_disposition(b'form-data; name="a"; filename="C:\\dir\\x.jpg"'),
    "an extended file name": with_disposition(b"form-data; name=a; filename*=utf-8''%e2%82%ac.jpg"),
    "both spellings of a file name": with_disposition(b"form-data; name=f; filename=x.csv; filename*=utf-8''x.csv"),
    "the extended file name first": with_disposition(b"form-data; filename*=UTF-8'en'x; filename=x; name=f"),
    "a quoted quotation mark": with_disposition(b'form-data; name="a\\"b"; filename="\\"x\\".jpg"'),
    "a quoted backslash": with_disposition(b'form-data; name="a\\\\"; filename="b\\\\c"'),
    "equals signs": with_disposition(b'form-data; name="data[name=x]"; filename="full name=y&filename=z.jpg"'),
    "a length": form(part(b"v", FIELD, b"Content-Length: 1"), part(b"", FIELD, b"Content-Length: 0")),
    "texts that tell their type": form(*[part(b"v", FIELD, b"Content-Type: Text/Plain; charset=utf-8")] * 4),
    "binary": form(part(b"v", FIELD, b"Content-Transfer-Encoding: Binary")),
    "a head of nearly 8 KiB": form(
        part(b"v", FIELD, b"Content-Type: text/plain; x=".ljust(MAX_PART_HEAD_BYTES - len(FIELD) - 6, b"x"))
    ),
}

BAD: dict[str, bytes] = {
    "nothing": b"",
    "only a delimiter": b"--B",
    "only a delimiter line": b"--B\r\n",
    "no final delimiter": form(part(), end=b""),
    "half a final delimiter": form(part(), end=b"--B-"),
    "a delimiter in place of the final one": form(part(), end=b"--B\r\n"),
    "half a CRLF at the end": form(part(), end=b"--B--\r"),
    "an LF at the end": form(part(), end=b"--B--\n"),
    "two CRLFs at the end": form(part(), end=b"--B--\r\n\r\n"),
    "an epilogue": form(part(), end=b"--B--\r\nbye"),
    "a part after the end": form(part(), end=b"--B--\r\n") + form(part()),
    "a preamble": b"hello\r\n" + form(part()),
    "an empty line first": b"\r\n" + form(part()),
    "another boundary": form(part()).replace(b"--B", b"--C"),
    "a boundary in another case": form(part()).replace(b"--B", b"--b"),
    "a boundary with one dash": form(part())[1:],
    "a longer boundary first": form(part()).replace(b"--B\r\n", b"--BB\r\n"),
    "a space after the delimiter": form(part()).replace(b"--B\r\n", b"--B \r\n"),
    "a space after the final delimiter": form(part(), end=b"--B-- \r\n"),
    "an LF after the delimiter": form(part()).replace(b"--B\r\n", b"--B\n"),
    "a CR after the delimiter": form(part()).replace(b"--B\r\n", b"--B\r"),
    "the delimiter inside a line": form(part(b"x--B\r\n")),
    "the delimiter after an LF": form(part(b"x\n--B\r\n" + FIELD + b"\r\n\r\ny")),
    "the delimiter after a CR": form(part(b"x\r--B\r\n" + FIELD + b"\r\n\r\ny")),
    "the final delimiter after an LF": form(part(b"x\n--B--")),
    "the delimiter at once after a head": b"--B\r\n" + FIELD + b"\r\n\r\n--B--\r\n",
    "a longer boundary in the content": form(part(b"x\r\n--BB\r\ny")),
    "LFs everywhere": form(part()).replace(b"\r\n", b"\n"),
    "an LF in a head": form(part(b"v", FIELD + b"\nX: y")),
    "a CR in a head": form(part(b"v", FIELD + b"\rX: y")),
    "a head ended by LFs": b"--B\r\n" + FIELD + b"\n\nv\r\n--B--\r\n",
    "a NUL in a head": form(part(b"v", FIELD + b"\x00")),
    "a control in a head": form(part(b"v", FIELD + b"\x1b")),
    "a folded line": form(part(b"v", b"Content-Disposition: form-data;", b' name="a"')),
    "a space before the colon": form(part(b"v", b'Content-Disposition : form-data; name="a"')),
    "no colon": form(part(b"v", FIELD, b"X")),
    "no head": b"--B\r\n\r\nv\r\n--B--\r\n",
    "no head and no empty line": b"--B\r\nv\r\n--B--\r\n",
    "a head that never ends": form(part(b"v", FIELD, b"X: " + b"x" * MAX_PART_HEAD_BYTES)),
    "no disposition": form(part(b"v", b"Content-Type: text/plain")),
    "two dispositions": form(part(b"v", FIELD, FIELD)),
    "two types": form(part(b"v", FIELD, b"Content-Type: text/plain", b"content-type: text/html")),
    "attachment": with_disposition(b'attachment; name="a"'),
    "form-data-x": with_disposition(b'form-data-x; name="a"'),
    "no name": with_disposition(b"form-data"),
    "only a file name": with_disposition(b'form-data; filename="a"'),
    "two names": with_disposition(b'form-data; name="a"; name="b"'),
    "two names in two cases": with_disposition(b'form-data; name="a"; NAME="b"'),
    "two file names": with_disposition(b'form-data; name="a"; filename="a"; filename="b"'),
    "an extended name": with_disposition(b"form-data; name*=utf-8''a"),
    "a name in pieces": with_disposition(b'form-data; name="a"; filename*0="a"; filename*1="b"'),
    "a quoted quotation mark": with_disposition(b'form-data; name="a\\"; filename=\\"b"'),
    "an open quotation": with_disposition(b'form-data; name="a'),
    "text after a quotation": with_disposition(b'form-data; name="a"b'),
    "a comma": with_disposition(b'form-data, name="a"'),
    "a semicolon too many": with_disposition(b'form-data;; name="a"'),
    "a semicolon at the end": with_disposition(b'form-data; name="a";'),
    "spaces around the equals sign": with_disposition(b'form-data; name = "a"'),
    "single quotes and a space": with_disposition(b"form-data; name='a b'"),
    "another parameter": with_disposition(b'form-data; name="a"; size=3'),
    "a parameter that ends like a name": with_disposition(b'form-data; x-name="b"; name="a"'),
    "a file name inside a name": with_disposition(b'form-data; name="a; filename=b"'),
    "a file name inside a name, spelt otherwise": with_disposition(b'form-data; name="a;FileName* =b"'),
    "a name inside a file name": with_disposition(b'form-data; filename="x; name=b"; name="a"'),
    "a file name behind a quoted quotation mark": with_disposition(b'form-data; name="a\\"; filename=b"'),
    "a quotation that its last backslash leaves open": with_disposition(b'form-data; name="a"; filename="C:\\dir\\"'),
    "an extended file name twice": with_disposition(b"form-data; name=a; filename*=utf-8''b; filename*=utf-8''c"),
    "a token with an equals sign": with_disposition(b"form-data; name=a; filename=b=c"),
    "a value in single quotes": with_disposition(b"form-data; name='a'"),
    "an extended file name without a charset": with_disposition(b"form-data; name=a; filename*=b"),
    "an extended file name without a value": with_disposition(b"form-data; name=a; filename*=utf-8''"),
    "an extended file name in another charset": with_disposition(b"form-data; name=a; filename*=utf-16''b"),
    "an extended file name with a bad escape": with_disposition(b"form-data; name=a; filename*=utf-8''%2"),
    "an extended file name in quotes": with_disposition(b"form-data; name=a; filename*=\"utf-8''b\""),
    "a file name in single quotes": with_disposition(b"form-data; name=a; filename='b'"),
    "a disposition in another spelling": form(part(b"v", FIELD, FIELD.replace(b"-", b"_", 1))),
    "a disposition without its dash": form(part(b"v", FIELD, b'ContentDisposition: form-data; name="b"')),
    "a type in another spelling": form(part(b"v", FIELD, b"Content_Type: image/png")),
    "an encoding in another spelling": form(part(b"v", FIELD, b"Content_Transfer-Encoding: base64")),
    "a coding": form(part(b"v", FIELD, b"Content-Encoding: gzip")),
    "a field that forms do not know": form(part(b"v", FIELD, b"X-Note: a")),
    "a length that is too long": form(part(b"v", FIELD, b"Content-Length: 2"), part()),
    "a length that is too short": form(part(b"v", FIELD, b"Content-Length: 0")),
    "a length that is none": form(part(b"v", FIELD, b"Content-Length: +1")),
    "an empty length": form(part(b"v", FIELD, b"Content-Length:")),
    "latin-1": with_disposition(b'form-data; name="\xfc"'),
    "base64": form(part(b"dg==", FIELD, b"Content-Transfer-Encoding: base64")),
    "quoted-printable": form(part(b"v", FIELD, b"Content-Transfer-Encoding: quoted-printable")),
    "a multipart inside": form(part(b"v", FIELD, b"Content-Type: multipart/mixed; boundary=C")),
    "a multipart inside, with a space": form(part(b"v", FIELD, b"Content-Type: multipart /mixed; boundary=C")),
    "a multipart inside, in capitals": form(part(b"v", FIELD, b"content-type:MULTIPART/FORM-DATA;boundary=C")),
}

OVER: dict[str, tuple[bytes, str]] = {
    "a fifth part": (form(*[part()] * 5), "too_many_parts"),
    "a third file": (form(*[part(b"x", FILE)] * 3), "too_many_files"),
    "a third file with an extended name": (
        form(*[part(b"x", b"Content-Disposition: form-data; name=a; filename*=utf-8''a")] * 3),
        "too_many_files",
    ),
    "a third file to readers that search for its name": (
        form(*[part(b"x", b'Content-Disposition: form-data; name="a filename=b"')] * 3),
        "too_many_files",
    ),
    "a third file with both spellings of its name": (
        form(*[part(b"x", b"Content-Disposition: form-data; name=f; filename=a; filename*=utf-8''a")] * 3),
        "too_many_files",
    ),
    "a third file behind a quoted quotation mark": (
        form(*[part(b"x", b'Content-Disposition: form-data; name="a\\"b"; filename=c')] * 3),
        "too_many_files",
    ),
    "a third file without a name": (
        form(*[part(b"x", FIELD, b"Content-Type: application/octet-stream")] * 3),
        "too_many_files",
    ),
    "a third file by its type": (form(*[part(b"x", FIELD, b"Content-Type: image/png")] * 3), "too_many_files"),
    "a third file by a type that is none": (form(*[part(b"x", FIELD, b"Content-Type:")] * 3), "too_many_files"),
    "a third file by a type like text/plain": (
        form(*[part(b"x", FIELD, b"Content-Type: text/plain , image/png")] * 3),
        "too_many_files",
    ),
    "a file of 11 bytes by its type": (form(part(b"0123456789a", FIELD, b"Content-Type: a/b")), "file_too_large"),
    "a typed text of 11 bytes": (form(part(b"0123456789a", FIELD, b"Content-Type: text/plain")), "file_too_large"),
    "a file of 11 bytes": (form(part(b"0123456789a", FILE)), "file_too_large"),
    "a file of line ends": (form(part(b"\r\n" * 6, FILE)), "file_too_large"),
    "a second file that is large": (form(part(b"x", FILE), part(), part(b"x" * 50, FILE)), "file_too_large"),
}


def read(*pieces: bytes, boundary: bytes = b"B", rule: MultipartRule = RULE) -> Refusal | None:
    reader = MultipartReader(boundary, rule)
    for piece in pieces:
        refusal = reader.feed(piece)
        if refusal is not None:
            return refusal
    return reader.end()


@pytest.mark.parametrize("name", GOOD)
def test_a_good_form_passes_at_every_split(name: str) -> None:
    raw = GOOD[name]
    assert read(raw) is None
    assert read(*[raw[i : i + 1] for i in range(len(raw))]) is None
    for cut in range(len(raw)):
        assert read(raw[:cut], raw[cut:]) is None, raw[:cut]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_form_is_refused_at_every_split(name: str) -> None:
    raw = BAD[name]
    for pieces in [(raw,), *((raw[:cut], raw[cut:]) for cut in range(len(raw)))]:
        refusal = read(*pieces)
        assert refusal is not None, pieces
        assert (refusal.status, refusal.code, refusal.close) == (400, "bad_multipart", True)
    assert read(*[raw[i : i + 1] for i in range(len(raw))]) is not None


@pytest.mark.parametrize("name", OVER)
def test_a_form_over_a_limit_is_refused_at_every_split(name: str) -> None:
    raw, code = OVER[name]
    for pieces in [(raw,), *((raw[:cut], raw[cut:]) for cut in range(len(raw)))]:
        refusal = read(*pieces)
        assert refusal is not None, pieces
        assert (refusal.status, refusal.code) == (413, code)


def test_a_limit_is_refused_before_the_form_ends() -> None:
    assert read(part(b"x" * 40, FILE)[:-20]) == Refusal(
        413, "file_too_large", "A file may have at most 10 bytes here.", close=True
    )
    assert read(form(*[part()] * 4, end=b"--B\r\n")) is not None


def test_an_epilogue_is_refused_as_soon_as_it_begins() -> None:
    reader = MultipartReader(b"B", RULE)
    assert reader.feed(form(part())) is None
    assert reader.feed(b"x") is not None


def test_files_have_no_bound_of_their_own_without_one() -> None:
    assert read(form(part(b"x" * 10_000, FILE)), rule=MultipartRule(1, 1)) is None
    assert read(form(part(b"x", FILE)), rule=MultipartRule(1, 0)) is not None


@pytest.mark.parametrize("raw", [GOOD["as many as allowed"], GOOD["no parts"], GOOD["no CRLF at the end"]])
def test_what_completes_a_form_is_told_apart(raw: bytes) -> None:
    """Whatever the split, the bytes before `closing` do not hold the whole final delimiter."""
    for cut in range(len(raw)):
        reader = MultipartReader(b"B", RULE)
        passed = b""
        for piece in (raw[:cut], raw[cut:]):
            assert reader.feed(piece) is None
            assert 0 <= reader.closing <= len(piece)
            passed += piece[: len(piece) - reader.closing]
        assert reader.end() is None
        assert b"--B--" not in passed
        assert len(raw) - len(passed) <= len(b"--B--\r\n")


@pytest.mark.parametrize(
    ("boundary", "is_one"),
    [
        (b"B", True),
        (b"----WebKitFormBoundary7MA4YWxkTrZu0gW", True),
        (b"x" * 70, True),
        (b"a b", False),
        (b" a", False),
        (b"'()+_,-./:=?", True),
        (b"", False),
        (b"x" * 71, False),
        (b"a ", False),
        (b"a;b", False),
        (b'a"b', False),
        (b"a\r\nb", False),
        (b"a\n", False),
        (b"\xfc", False),
    ],
)
def test_boundaries(boundary: bytes, is_one: bool) -> None:
    assert (BOUNDARY.fullmatch(boundary) is not None) is is_one
    if is_one:
        assert read(form(part(), part(b"x", FILE)).replace(b"--B", b"--" + boundary), boundary=boundary) is None


HEAVY: dict[str, Callable[[int], bytes]] = {
    "many tiny parts": lambda size: form(*[part()] * (size // 60)),
    "content that is all but a delimiter": lambda size: form(part((b"\r\n--" + b"A" * 20) * (size // 24))),
    "content of half delimiters": lambda size: form(part(b"\r\n-" * (size // 3))),
}
HEADS: dict[str, Callable[[int], bytes]] = {
    "a head of blanks": lambda size: part(b"v", b"Content-Disposition:" + b" " * size + b"\x01"),
    "a head of parameters": lambda size: form(part(b"v", FIELD + b"; a=b" * (size // 5))),
}


def read_whole_and_in_pieces(body: bytes) -> None:
    rule = MultipartRule(max_parts=100_000, max_files=0)
    read(body, rule=rule)
    read(*[body[i : i + 1000] for i in range(0, len(body), 1000)], rule=rule)


@pytest.mark.parametrize("name", HEAVY)
def test_what_costs_readers_much_takes_linear_time_here(name: str) -> None:
    assert growth(HEAVY[name], read_whole_and_in_pieces, 900_000) < LINEAR


@pytest.mark.parametrize("name", HEADS)
def test_so_does_a_head_even_byte_by_byte(name: str) -> None:
    def read_bytes(body: bytes) -> None:
        read(*[body[i : i + 1] for i in range(len(body))])

    assert growth(HEADS[name], read_bytes, MAX_PART_HEAD_BYTES - 200) < LINEAR
