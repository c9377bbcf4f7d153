"""Host: missing, doubled, malformed, spelt another way, not served."""

from __future__ import annotations

from tests.gateway.raw.case import HOST, Passed, answered, get, passed, refused

X = Passed(b"GET", b"/x")


def host(value: bytes) -> bytes:
    return get(host=b"Host: " + value + b"\r\n")


CASES = [
    *refused(400, "bad_host", {
        "no Host": get(host=b""),
        "no Host in HTTP/1.0": get(line=b"GET /x HTTP/1.0", host=b""),
        "two Hosts": get(host=HOST + b"Host: b.example\r\n"),
        "two Hosts, the good one last": get(host=b"Host: b.example\r\n" + HOST),
        "two Hosts, far apart": get(b"X: y", b"Y: z", b"Host: b.example"),
        "two Hosts, one in capitals": get(host=HOST + b"HOST: b.example\r\n"),
        "the same Host twice": get(host=HOST + HOST),
        "a Host and an empty one": get(host=HOST + b"Host:\r\n"),
        "two Hosts in one": host(b"a.example, b.example"),
        "the same Host twice in one": host(b"a.example,a.example"),
        "Host empty": get(host=b"Host:\r\n"),
        "Host of spaces": host(b"  "),
        "Host with a path": host(b"a.example/x"),
        "Host with a query": host(b"a.example?x"),
        "Host with a fragment": host(b"a.example#x"),
        "Host with a scheme": host(b"http://a.example"),
        "Host with a user": host(b"u@a.example"),
        "Host with user and password": host(b"u:p@a.example"),
        "Host with a space": host(b"a.example b.example"),
        "Host with a tab": host(b"a.example\tb.example"),
        "Host with a backslash": host(b"a.example\\b.example"),
        "Host with an escape": host(b"a%2eexample"),
        "Host with a high byte": host(b"a.ex\xe4mple"),
        "Host in UTF-8": host("ä.example".encode()),
        "Host with a semicolon": host(b"a.example;x"),
        "Host in quotes": host(b'"a.example"'),
        "Host of an asterisk": host(b"*"),
        "Host of a dot": host(b"."),
        "Host with two dots": host(b"a..example"),
        "Host with two final dots": host(b"a.example.."),
        "Host with a dot first": host(b".a.example"),
        "Host with a hyphen first": host(b"-a.example"),
        "Host with port 0": host(b"a.example:0"),
        "Host with port 65536": host(b"a.example:65536"),
        "Host with a port of letters": host(b"a.example:http"),
        "Host with a negative port": host(b"a.example:-80"),
        "Host with two ports": host(b"a.example:80:80"),
        "Host of a port": host(b":80"),
        "Host of a short address": host(b"192.0.513"),
        "Host of a number": host(b"3221225985"),
        "Host of a hexadecimal number": host(b"0xC0000201"),
        "Host of an octal address": host(b"0300.0.2.1"),
        "Host of an address without brackets": host(b"2001:db8::1"),
        "Host of half a bracket": host(b"[2001:db8::1"),
        "Host of brackets": host(b"[]"),
        "Host with a zone": host(b"[fe80::1%25eth0]"),
        "Host with something behind the brackets": host(b"[2001:db8::1]x"),
        "Host of 300 letters": host(b"a" * 300),
        "Host of 3,000 letters": host(b"a.example" + b"." + b"a" * 3000),
    }),
    *refused(400, "bad_syntax", {
        "Host folded": get(host=b"Host:\r\n a.example\r\n"),
        "Host with a space before its colon": get(host=b"Host : a.example\r\n"),
        "Host with a space before it": get(host=b" Host: a.example\r\n"),
        "Host with a NUL": host(b"a.example\x00.b.example"),
        "Host with a bare CR": host(b"a.example\rb.example"),
        "Host without a colon": get(host=b"Host a.example\r\n"),
    }),
    *passed({
        "Host in capitals": (get(host=b"HOST: A.EXAMPLE\r\n"), X),
        "Host without a space": (get(host=b"Host:a.example\r\n"), X),
        "Host with spaces around it": (get(host=b"Host: \t a.example \t\r\n"), X),
        "Host with a final dot": (host(b"a.example."), X),
        "Host with its port": (host(b"a.example:80"), X),
        "Host with the port of TLS": (host(b"a.example:443"), X),
        "Host with an empty port": (host(b"a.example:"), X),
        "Host with another port that is served": (host(b"a.example:8080"), X),
        "Host of an address": (host(b"192.0.2.1"), X),
        "Host of an IPv6 address, spelt long": (host(b"[2001:0DB8:0:0::1]:80"), X),
        "Host last": (get(b"X: y", host=b"") [:-2] + HOST + b"\r\n", X),
        "another Host in another field": (get(b"X-Host: b.example", b"X-Forwarded-Host: b.example"), X),
    }),
    *answered(421, "misdirected_request", {
        "a Host that is not served": host(b"b.example"),
        "a Host above": host(b"example"),
        "a Host below": host(b"x.a.example"),
        "a Host that begins alike": host(b"a.example.b.example"),
        "a port that is not served": host(b"a.example:8081"),
        "an address that is not served": host(b"127.0.0.1"),
        "localhost": host(b"localhost"),
        "an IPv6 address that is not served": host(b"[::1]"),
    }),
]  # fmt: skip
