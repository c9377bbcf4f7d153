"""How long a connection to the app may be trusted once it idles: decisions only.

A server may close a connection that idles at any moment (RFC 9112 9.3), and a request that is on its way just then is
lost. One that may be sent twice is sent again; any other goes only where such an end is not to be expected: on a
connection that was used a moment ago, or well inside the time that the app itself has told (`Keep-Alive: timeout=5`, as
Node and Apache do).
"""

from __future__ import annotations

import math
import re

from scopegate.types import Fields

MOMENT_S = 0.1
"""No server that tells nothing closes a connection which has idled for less."""
_LONGEST_S = 3600
"""A time beyond it is taken for none: nobody keeps an idle connection for so long."""
_MARGIN_S = 1.0
"""Its time began when it had written its answer, and its end takes time to arrive."""
_TIMEOUT = re.compile(rb"(?:^|[,;])[ \t]*timeout[ \t]*=[ \t]*\"?([0-9]{1,10})\"?[ \t]*(?=$|[,;])", re.IGNORECASE)


def kept_for_s(fields: Fields) -> float | None:
    """For how many seconds the app's answer allows its connection to idle, a second before the app would close it; 0
    for not at all, None where it tells nothing that can be read. Of several times the shortest."""
    found = [int(time) for name, value in fields if name.lower() == b"keep-alive" for time in _TIMEOUT.findall(value)]
    told = [time_s for time_s in found if time_s <= _LONGEST_S]
    return max(0.0, min(told) - _MARGIN_S) if told else None


def idles_for_s(kept_s: float | None) -> float:
    """How long such a connection may stay unused at all."""
    return math.inf if kept_s is None else kept_s


def is_sure(idle_s: float, kept_s: float | None) -> bool:
    """Whether a request that may not be sent twice goes on a connection that has idled for so long."""
    return idle_s < (MOMENT_S if kept_s is None else kept_s)
