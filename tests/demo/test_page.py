"""The demo's page: what it asks for is what its policy lets in."""

from __future__ import annotations

import re

from scopegate.demo import page

ORIGIN = "http://127.0.0.1:9000"


def test_photos_are_shown_from_their_store_and_nothing_else_from_outside() -> None:
    policy = page.fields(ORIGIN)["Content-Security-Policy"]
    assert dict(part.split(" ", 1) for part in policy.split("; ")) == {
        "default-src": "'self'",
        "img-src": f"'self' {ORIGIN}",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }


def test_the_page_runs_under_its_own_policy() -> None:
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.HTML)
    assert loaded == ["/static/style.css", "/static/lead.js"]
    assert not re.search(r"<script>|<style|\sstyle=|\son\w+=", page.HTML), "nothing inline: it would not run"
