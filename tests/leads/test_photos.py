"""Photos: every spelling that must not become a connection, and the honest ones that must."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.leads.photos import (
    PhotoCode,
    PhotoRefusal,
    PhotoType,
    PhotoUrl,
    is_public,
    judge_url,
    may_connect,
    sniff,
)

HOSTS = ("*.s3.amazonaws.com", "photos.example.com", "cdn.example.com:8443", "127.0.0.1:9000", "[::1]:9000")

HOSTILE_URLS = {
    PhotoCode.FORBIDDEN_HOST: [
        "https://example.com/a.jpg",
        "https://s3.amazonaws.com/a.jpg",
        "https://.s3.amazonaws.com.evil.com/a.jpg".replace("//.", "//x."),
        "https://evil-s3.amazonaws.com/a.jpg",
        "https://xs3.amazonaws.com/a.jpg",
        "https://photos.example.com.evil.com/",
        "https://aphotos.example.com/",
        "https://x.photos.example.com/",
        "https://photos.example.com:444/",
        "https://b.s3.amazonaws.com:8443/",
        "https://cdn.example.com/",
        "https://cdn.example.com:443/",
        "https://localhost/",
        "https://localhost:9000/",
        "http://127.0.0.1/",
        "http://127.0.0.1:9001/",
        "http://127.0.0.2:9000/",
        "http://[::1]:9001/",
        "http://0.0.0.0:9000/",
        "http://10.0.0.1:9000/",
        "http://169.254.169.254/latest/meta-data/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "https://192.168.1.1/",
        "https://100.100.100.200/",
        "https://8.8.8.8/",
        "http://[::ffff:7f00:1]:9000/",
        "http://[::7f00:1]:9000/",
        "http://[64:ff9b::7f00:1]:9000/",
        "http://[2002:7f00:1::]:9000/",
        "http://[fd00:ec2::254]/",
        "https://s3.amazonaws.com%2eevil.com/".replace("%2e", "-"),
    ],
    PhotoCode.BAD_URL: [
        "",
        " ",
        "a.jpg",
        "/a.jpg",
        "//b.s3.amazonaws.com/a.jpg",
        "file:///etc/passwd",
        "ftp://b.s3.amazonaws.com/a",
        "gopher://127.0.0.1:9000/_x",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "https:b.s3.amazonaws.com/a",
        "https:/b.s3.amazonaws.com/a",
        "https:///b.s3.amazonaws.com/a",
        "https://",
        "https://?x",
        "https://#b.s3.amazonaws.com",
        "http://b.s3.amazonaws.com/a.jpg",
        "http://photos.example.com/a.jpg",
        "http://photos.example.com:80/a.jpg",
        "https://user@b.s3.amazonaws.com/",
        "https://user:pass@b.s3.amazonaws.com/",
        "https://b.s3.amazonaws.com@evil.com/",
        "https://evil.com\\@b.s3.amazonaws.com/",
        "https://b.s3.amazonaws.com\\.evil.com/",
        "https:\\\\b.s3.amazonaws.com\\a",
        "https://b.s3.amazonaws.com/a\tb",
        "https://b.s3.amazonaws.com/\ud83d",
        "https://b\u00fccher.s3.amazonaws.com/a",
        "https://b .s3.amazonaws.com/a",
        " ",
        "https://b.s3.amazonaws.com/a\n",
        "https://b.s3.amazonaws.com/a\r\nHost: evil",
        "https://b.s3.amazonaws.com/\x00",
        "https://b.s3.amaz\tonaws.com/a",
        "https://b.s3.amazonaws.com./a",
        "https://b..s3.amazonaws.com/a",
        "https://.s3.amazonaws.com/a",
        "https://-b.s3.amazonaws.com/a",
        "https://b%2es3.amazonaws.com/a",
        "https://b.s3.amazonaws.com%00.evil.com/",
        "https://bücher.s3.amazonaws.com/a",
        "https://b。s3.amazonaws.com/a",
        "https://ⓔxample.com/",
        "https://①②⑦.0.0.1/",
        "http://127.1:9000/",
        "http://127.0.1:9000/",
        "http://2130706433:9000/",
        "http://0x7f000001:9000/",
        "http://0x7f.0.0.1:9000/",
        "http://0177.0.0.1:9000/",
        "http://127.0.0.01:9000/",
        "http://127.000.000.001:9000/",
        "http://127.0.0.1.:9000/",
        "http://[0:0:0:0:0:0:0:1]:9000/",
        "http://[::0001]:9000/",
        "http://[::ffff:127.0.0.1]:9000/",
        "http://[::127.0.0.1]:9000/",
        "http://[fe80::1%25eth0]/",
        "http://[::1:9000/",
        "http://::1:9000/",
        "https://b.s3.amazonaws.com:/a",
        "https://b.s3.amazonaws.com:0/a",
        "https://b.s3.amazonaws.com:0443/a",
        "https://b.s3.amazonaws.com:+443/a",
        "https://b.s3.amazonaws.com:65536/a",
        "https://b.s3.amazonaws.com:443:443/a",
        "https://1e3.s3.amazonaws.com.0x1/a",
        "https://" + "a" * 64 + ".s3.amazonaws.com/",
        "https://" + "a." * 130 + "s3.amazonaws.com/",
        "https://b.s3.amazonaws.com/" + "a" * 2048,
        "HTTPS//b.s3.amazonaws.com/",
    ],
}


@pytest.mark.parametrize(("code", "url"), [(code, url) for code, urls in HOSTILE_URLS.items() for url in urls])
def test_a_hostile_address_is_refused_by_name(code: PhotoCode, url: str) -> None:
    verdict = judge_url(url, HOSTS)
    assert isinstance(verdict, PhotoRefusal)
    assert verdict.code is code
    assert "evil" not in verdict.detail


def test_a_user_name_is_called_one() -> None:
    assert judge_url("https://user:pass@b.s3.amazonaws.com/", HOSTS) == PhotoRefusal(
        PhotoCode.BAD_URL, "has a user name"
    )


@pytest.mark.parametrize(
    ("url", "authority", "target"),
    [
        ("https://b.s3.amazonaws.com/a.jpg", "b.s3.amazonaws.com", "/a.jpg"),
        ("HTTPS://B.S3.AmazonAWS.com/a.jpg", "b.s3.amazonaws.com", "/a.jpg"),
        ("https://b.s3.amazonaws.com:443/a.jpg", "b.s3.amazonaws.com", "/a.jpg"),
        ("https://my_old.bucket.s3.amazonaws.com/a", "my_old.bucket.s3.amazonaws.com", "/a"),
        ("https://xn--bcher-kva.s3.amazonaws.com/a", "xn--bcher-kva.s3.amazonaws.com", "/a"),
        ("https://b.s3.amazonaws.com", "b.s3.amazonaws.com", "/"),
        ("https://b.s3.amazonaws.com?x=1", "b.s3.amazonaws.com", "/?x=1"),
        (
            "https://b.s3.amazonaws.com/a%2Fb/../c%20d?X-Amz-Signature=ab+c%2F%3D&x=a/b?c#frag",
            "b.s3.amazonaws.com",
            "/a%2Fb/../c%20d?X-Amz-Signature=ab+c%2F%3D&x=a/b?c",
        ),
        ("https://photos.example.com/a@b:c", "photos.example.com", "/a@b:c"),
        ("https://cdn.example.com:8443/a", "cdn.example.com:8443", "/a"),
        ("http://cdn.example.com:8443/a", "cdn.example.com:8443", "/a"),
        ("http://127.0.0.1:9000/a", "127.0.0.1:9000", "/a"),
        ("http://[::1]:9000/a", "[::1]:9000", "/a"),
    ],
)
def test_an_honest_address_is_kept_byte_for_byte(url: str, authority: str, target: str) -> None:
    verdict = judge_url(url, HOSTS)
    assert isinstance(verdict, PhotoUrl)
    assert (verdict.authority, verdict.target) == (authority, target)


def test_only_loopback_may_be_listed_by_number() -> None:
    for host in ("10.0.0.5:9000", "169.254.169.254", "8.8.8.8", "[fe80::1]", "[2606:4700::1]"):
        verdict = judge_url(f"http://{host}/", (host,))
        assert isinstance(verdict, PhotoRefusal)
        assert verdict.code is PhotoCode.FORBIDDEN_ADDRESS
    assert isinstance(judge_url("http://127.0.0.1:1234/", ("127.0.0.1",)), PhotoUrl)


def test_no_pattern_allows_nothing_and_a_star_alone_is_no_pattern() -> None:
    for hosts in ((), ("*",), ("*.",), ("",), ("https://b.s3.amazonaws.com",)):
        assert isinstance(judge_url("https://b.s3.amazonaws.com/a", hosts), PhotoRefusal)


CLOSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.1.2.3",
    "127.255.255.255",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "3fff::1",
    "3fff:fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::1%eth0",
    "febf::1",
    "fec0::1",
    "ff01::1",
    "ff02::1",
    "ff0e::1",
]
OPEN = [
    "1.1.1.1",
    "8.8.8.8",
    "52.216.1.1",
    "99.255.255.255",
    "100.63.255.255",
    "100.128.0.1",
    "126.255.255.255",
    "128.0.0.1",
    "168.63.129.15",
    "168.63.129.17",
    "169.253.255.255",
    "169.255.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "192.0.1.1",
    "192.167.255.255",
    "192.169.0.1",
    "198.17.255.255",
    "198.20.0.1",
    "223.255.255.255",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2003::1",
    "2400:cb00::1",
    "2600:1f00::1",
    "2606:4700:4700::1111",
    "2a00:1450::1",
    "3ffe::1",
]


@pytest.mark.parametrize("text", CLOSED)
def test_no_connection_goes_to_a_closed_address(text: str) -> None:
    url = judge_url("https://photos.example.com/", HOSTS)
    assert isinstance(url, PhotoUrl)
    assert not is_public(ip_address(text))
    assert not may_connect(url, ip_address(text))


@pytest.mark.parametrize("text", OPEN)
def test_neighbours_of_the_closed_ranges_stay_open(text: str) -> None:
    assert is_public(ip_address(text))


def test_a_listed_loopback_address_allows_itself_only() -> None:
    url = judge_url("http://127.0.0.1:9000/", HOSTS)
    assert isinstance(url, PhotoUrl)
    assert may_connect(url, ip_address("127.0.0.1"))
    assert not may_connect(url, ip_address("127.0.0.2"))
    assert not may_connect(url, ip_address("8.8.8.8"))


@given(st.ip_addresses(v=4))
def test_whatever_the_standard_library_calls_private_is_closed(address: object) -> None:
    assert not (is_public(address) and (address.is_private or address.is_multicast))  # type: ignore[arg-type, attr-defined]


@given(st.text(max_size=60), st.sampled_from(["https://", "http://", "https://b.s3.amazonaws.com", ""]))
def test_any_text_gets_a_verdict_and_an_accepted_host_is_listed(text: str, start: str) -> None:
    verdict = judge_url(start + text, HOSTS)
    if isinstance(verdict, PhotoUrl):
        assert verdict.host.endswith((".s3.amazonaws.com", ".example.com")) or verdict.literal is not None


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "image/png"),
        (b"GIF87a\x01\x00", "image/gif"),
        (b"GIF89a\x01\x00", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"", None),
        (b"\xff\xd8", None),
        (b"\x89PNG\n\x1a\n", None),
        (b"GIF88a", None),
        (b"RIFF\x00\x00\x00\x00WAVE", None),
        (b"<svg xmlns=", None),
        (b"<?xml version", None),
        (b"%PDF-1.7", None),
        (b"BM6\x00\x00\x00", None),
        (b"II*\x00\x08\x00", PhotoType.TIFF),
        (b"\x00\x00\x00\x18ftypheic", PhotoType.HEIF),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1avif", PhotoType.AVIF),
        (b"\x00\x00\x00\x10ftypmif1\x00\x00\x00\x00heic", None),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00isommp42", None),
        (b"PK\x03\x04", None),
        (b" \xff\xd8\xff", None),
    ],
)
def test_a_picture_is_known_by_its_first_bytes(head: bytes, kind: str | None) -> None:
    assert sniff(head) == kind


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("https://b.s3.amazonaws.com/a b.jpg", "/a%20b.jpg"),
        (" https://b.s3.amazonaws.com/a ", "/a"),
        ("https://b.s3.amazonaws.com/Küche.jpg?n=ü x", "/K%C3%BCche.jpg?n=%C3%BC%20x"),
        ("https://b.s3.amazonaws.com/👩‍🔧.jpg", "/%F0%9F%91%A9%E2%80%8D%F0%9F%94%A7.jpg"),
        ('https://b.s3.amazonaws.com/"<>`{}^|?"<>`{}^|', "/%22%3C%3E%60%7B%7D%5E|?%22%3C%3E`{}^|"),
        ("https://b.s3.amazonaws.com/a%20b%2F?s=%2B+~'()*!$&,;:@=", "/a%20b%2F?s=%2B+~'()*!$&,;:@="),
        ("https://b.s3.amazonaws.com/a#Küche", "/a"),
    ],
)
def test_an_address_is_encoded_as_browsers_do(written: str, asked: str) -> None:
    found = judge_url(written, HOSTS)
    assert isinstance(found, PhotoUrl)
    assert found.target == asked


@pytest.mark.parametrize(
    ("host", "fits"),
    [
        ("bucket.s3.eu-west-1.amazonaws.com", True),
        ("my.bucket.s3.us-east-2.amazonaws.com", True),
        ("bucket.s3.amazonaws.com", False),
        ("s3.eu-west-1.amazonaws.com", False),
        ("bucket.s3.a.b.amazonaws.com", False),
        ("bucket.s3.eu-west-1.amazonaws.com.evil.com", False),
        ("bucket.xs3.eu-west-1.amazonaws.com", False),
    ],
)
def test_a_star_in_the_middle_is_one_label(host: str, fits: bool) -> None:
    found = judge_url(f"https://{host}/1.jpg", ["*.s3.*.amazonaws.com"])
    assert isinstance(found, PhotoUrl) == fits
