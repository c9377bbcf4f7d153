"""`server.maintenance` and `server.read_only`: what a flag shuts for everybody whom its targeting picks.

Pure. Called by `server`, and by `document` for the page.
"""

from __future__ import annotations

from dataclasses import dataclass

from scopegate.policy.kinds import Duration, FileName, Name, Shape, option, required
from scopegate.policy.sidefiles import FilePlace, SideFiles
from scopegate.types import Json

ON = "on"
"""The variant of its flag that switches something on."""

# Values


@dataclass(frozen=True, slots=True)
class Switch:
    """`flag` by its name. `page`: the HTML that browsers get, None for the gateway's own."""

    flag: str
    retry_after_s: float
    page: str | None = None


# Shapes


def parse_page(content: bytes) -> Json:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None


PAGE = FilePlace(("server", "maintenance", "page"), parse_page)


class ReadOnlyShape(Shape):
    flag: Name = required("The flag that switches it on, by its variant `on`.")
    retry_after: Duration = option("5m", "When clients are told to come again.")

    def build(self) -> Switch:
        return Switch(self.flag, self.retry_after)


class MaintenanceShape(Shape):
    flag: Name = required("The flag that switches it on, by its variant `on`.")
    retry_after: Duration = option("5m", "When clients are told to come again.")
    page: FileName | None = option(None, "An HTML file for browsers. Left out: a plain page.")

    def build(self, beside: SideFiles) -> Switch:
        page = None if self.page is None else beside.meanings[self.page, PAGE]
        assert page is None or isinstance(page, str)
        return Switch(self.flag, self.retry_after, page)
