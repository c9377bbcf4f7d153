"""The demo app's one page. Static but for the address that photos are shown from, which the security policy names."""

from __future__ import annotations

from collections.abc import Mapping

HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Ask for a repair estimate</title>
<link rel="stylesheet" href="/static/style.css">
<script src="/static/lead.js" defer></script>
</head>
<body>
<main>
<h1>What needs repair?</h1>
<p>A few words and photos are enough. You get an answer at once; the estimate follows on this page.</p>
<form id="lead">
<label>Your name <input name="name" autocomplete="name" required maxlength="100"></label>
<label>E-mail <input name="email" type="email" autocomplete="email" required maxlength="200"></label>
<label>What happened?
<textarea name="projectDescription" rows="5" required minlength="10" maxlength="4000"></textarea></label>
<label>Photos of the damage
<input name="photos" type="file" accept="image/jpeg,image/png,image/webp" multiple></label>
<button type="submit">Send</button>
<p id="status" role="status" aria-live="polite"></p>
</form>
<section id="result" hidden aria-labelledby="result-title">
<h2 id="result-title">Your estimate</h2>
<p id="summary"></p>
<table>
<thead><tr><th scope="col">Work</th><th scope="col">Quantity</th><th scope="col">Total</th></tr></thead>
<tbody id="lines"></tbody>
<tfoot><tr><th scope="row" colspan="2">Total</th><td id="total"></td></tr></tfoot>
</table>
<p id="score"></p>
</section>
</main>
</body>
</html>
"""


def fields(photo_origin: str) -> Mapping[str, str]:
    """Response fields of the page: no script, style or frame but our own."""
    policy = f"default-src 'self'; img-src 'self' {photo_origin}; base-uri 'none'; frame-ancestors 'none'"
    return {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
