"""A headless Chromium, spoken to by its own protocol (CDP)."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

PATIENCE_S = 30.0


class Page:
    """One tab. `logged` is what its console said of errors, `statuses` what each answer had, by URL, `told` its fields
    by their names in lower case."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.session: str | None = None
        self.logged: list[str] = []
        self.statuses: list[tuple[int, str]] = []
        self.told: list[tuple[str, dict[str, str]]] = []

    async def read(self) -> None:
        async for text in self._socket:
            told = json.loads(text)
            number, params = told.get("id"), told.get("params", {})
            if number in self._answers:
                self._answers.pop(number).set_result(told)
            elif told.get("method") == "Network.responseReceived":
                answer = params["response"]
                self.statuses.append((answer["status"], answer["url"]))
                fields = {name.lower(): value for name, value in answer["headers"].items()}
                self.told.append((answer["url"], fields))
            elif told.get("method") == "Runtime.exceptionThrown":
                self.logged.append(json.dumps(params["exceptionDetails"])[:500])
            elif told.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
                self.logged.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    async def ask(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": params}
        await self._socket.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        told = await asyncio.wait_for(answer, PATIENCE_S)
        if "error" in told:
            raise RuntimeError(f"{method}: {told['error']}")
        return told["result"]

    async def run(self, script: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        told = await self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise RuntimeError(f"{script}: {told['exceptionDetails']['exception'].get('description')}")
        return told["result"].get("value")

    async def until(self, script: str) -> Any:
        """The first true value of an expression."""
        async with asyncio.timeout(PATIENCE_S):
            while not (value := await self.run(script)):
                await asyncio.sleep(0.05)
        return value

    async def open(self, url: str) -> None:
        await self.ask("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")


@asynccontextmanager
async def browsing(host: str, port: int, tls_port: int = 0) -> AsyncIterator[Page]:
    """A tab that finds `host` at 127.0.0.1:`port`, and what it serves by https, with any certificate, at `tls_port`."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0",
            f"--user-data-dir={profile}", "--no-proxy-server", "--ignore-certificate-errors",
            f"--host-resolver-rules=MAP {host}:80 127.0.0.1:{port},MAP {host}:443 127.0.0.1:{tls_port}", "about:blank",
        ]  # fmt: skip
        chromium = await asyncio.create_subprocess_exec(
            "chromium", *options, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            assert chromium.stderr is not None
            async with asyncio.timeout(PATIENCE_S):
                while (found := re.search(r"ws://\S+", (await chromium.stderr.readline()).decode())) is None:
                    pass
            async with connect(found[0], max_size=None) as socket:
                page = Page(socket)
                reading = asyncio.create_task(page.read())
                target = (await page.ask("Target.createTarget", url="about:blank"))["targetId"]
                attached = await page.ask("Target.attachToTarget", targetId=target, flatten=True)
                page.session = attached["sessionId"]
                for domain in ("Page", "Runtime", "Network", "Log"):
                    await page.ask(f"{domain}.enable")
                yield page
                reading.cancel()
        finally:
            chromium.terminate()
            await chromium.wait()
