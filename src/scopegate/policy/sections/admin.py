"""`admin`: the private port.

Pure. Called by `document` and `policy`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from scopegate.policy.addresses import Address
from scopegate.policy.draft import Draft
from scopegate.policy.kinds import Listen, Shape, option
from scopegate.policy.sections.redirect import overlap
from scopegate.policy.sections.server import ServerShape
from scopegate.policy.tree import Fault


@dataclass(frozen=True, slots=True)
class Admin:
    listen: Address


class AdminShape(Shape):
    listen: Listen = option("127.0.0.1:9900", "Address of console, metrics and health; never the public port.")

    def build(self) -> Admin:
        return Admin(self.listen)


def checks(draft: Draft) -> Iterator[Fault]:
    """Two listeners that are one."""
    server, admin = draft.one("server", ServerShape), draft.one("admin", AdminShape)
    if server is None or admin is None:
        return
    public, private = server.listen, admin.listen
    if overlap(public, private):
        loc = ("admin", "listen") if draft.has("admin") else ("server", "listen")
        yield draft.problem(loc, f"public and admin port are both {private.port}: they must differ")
    if server.redirect is not None and overlap(server.redirect.listen, private):
        what = f"the admin port is {private.port} too: they must differ"
        yield draft.problem(("server", "redirect", "listen"), what)
