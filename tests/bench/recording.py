"""An app that remembers the heads it was sent and answers each with 200 bytes. Bodies are not expected."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Head:
    """Field names in lower case; a name that came twice holds both values, joined by a comma."""

    target: str
    fields: dict[str, str]


@dataclass
class App:
    port: int = 0
    heads: list[Head] = field(default_factory=list)


@contextmanager
def recording() -> Iterator[App]:
    app = App()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self) -> None:
            fields = {name.lower(): ",".join(self.headers.get_all(name, [])) for name in self.headers}
            app.heads.append(Head(self.path, fields))
            self.send_response(200)
            self.send_header("Content-Length", "200")
            self.end_headers()
            self.wfile.write(b"x" * 200)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    server = Server(("127.0.0.1", 0), Handler)
    app.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield app
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
