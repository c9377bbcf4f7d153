"""What of a lead's own data is shown: to whom the policy says so, and masked to everybody else. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from scopegate.admin.credentials import ConsoleRole, Who
from scopegate.policy.policy import Policy, WordsShown
from scopegate.types import Json

_URL = re.compile(r"https?://[^\s\"'<>]+")
_MAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_PHONE = re.compile(r"(?<![\w.])\+?\d(?:[\s()./-]{0,2}\d){6,14}(?!\w)")


def may_see_words(policy: Policy, who: Who) -> bool:
    """Whether leads' own words and photo addresses are shown to them."""
    match policy.admin.lead_words:
        case WordsShown.NOBODY:
            return False
        case WordsShown.OPERATOR:
            return who.role is ConsoleRole.OPERATOR
        case WordsShown.VIEWER:
            return True


def masked(value: Json) -> Json:
    """A result without what names a person: addresses of mail and photos, telephone numbers."""
    if isinstance(value, str):
        return masked_text(value)
    if isinstance(value, list):
        return [masked(one) for one in value]
    if isinstance(value, dict):
        return {name: masked(one) for name, one in value.items()}
    return value


def masked_text(text: str) -> str:
    text = _URL.sub(lambda found: masked_address(found[0]), text)
    return _PHONE.sub("•••", _MAIL.sub("•••@•••", text))


def masked_address(url: str) -> str:
    """Its host: a photo's path and query carry credentials."""
    try:
        return f"{urlsplit(url).scheme}://{urlsplit(url).hostname or ''}/•••"
    except ValueError:
        return "•••"
