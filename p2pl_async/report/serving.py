"""Pages of runs over HTTP, live while runs go on; for this machine's own browser.

    /                the runs below a folder, with status and accuracy; the table follows what happens
    /run/PATH/       the page of a run, written anew at each request; that of a run that goes on renews itself
    /events          server-sent events: the table's rows as JSON, whenever they change

It reads results folders and nothing else, in threads beside whatever else goes on: with `--watch` that is a run, whose
trio has the main thread and a virtual clock, by which no real time can be waited for. It listens on the loopback
address, and answers only requests that name it, so that no page of another site can read results through a browser.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from p2pl_async.basics.units import show_bytes, show_seconds
from p2pl_async.errors import P2plError, Problem, ScenarioError
from p2pl_async.report.page.writing import asset, hashed, page_of, template_of
from p2pl_async.report.tables import metric_of, score_columns, score_of, show_score
from p2pl_async.results.publishing import summary_of
from p2pl_async.results.run import load_run

_EVERY = 1.0  # s between two looks at the folders
_DEEPEST = 5  # folders below the one that is served
LOOPBACK = "127.0.0.1"


class ResultsServer:
    """Serve the runs below a folder: by `serve`, or beside other work while it is entered as a context.

    Args:
        folder: with results somewhere below it, or a run's own folder.
        port: to listen on; 0 takes a free one.

    Attributes:
        address: of the first page.

    Raises:
        ScenarioError: if the folder isn't there, or the port can't be had.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        if not folder.is_dir():
            raise ScenarioError(str(folder), [Problem("results", "there is no such folder")])
        self.folder = folder.resolve()
        try:
            self._server = ThreadingHTTPServer((LOOPBACK, port), _handler_of(self))
        except OSError as error:
            text = f"can't be listened on: {error.strerror}; choose another, or 0 for a free one"
            raise ScenarioError("p2pl report", [Problem("--port", text, port)]) from error
        self._server.daemon_threads = True
        self.names = {f"{host}:{self._server.server_port}" for host in (LOOPBACK, "localhost")}
        self.address = f"http://{LOOPBACK}:{self._server.server_port}/"
        self.closed = threading.Event()
        self._told: dict[str, tuple[int, dict[str, str] | None]] = {}  # run -> when its summary changed, its row

    def __enter__(self) -> ResultsServer:
        """Serve in a thread of its own until left."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def serve(self) -> None:
        """Serve until interrupted."""
        try:
            self._server.serve_forever()
        finally:
            self.closed.set()
            self._server.server_close()

    def runs(self) -> dict[str, Path]:
        """Return the runs there are, without their baselines: path below the folder -> folder."""
        found = {}
        for path in [
            one for depth in range(_DEEPEST + 1) for one in sorted(self.folder.glob("*/" * depth + "summary.json"))
        ]:
            name = path.parent.relative_to(self.folder).as_posix()
            if "baselines" not in path.relative_to(self.folder).parts and not path.is_symlink():
                found[name] = path.parent
        return dict(sorted(found.items()))

    def rows(self) -> list[dict[str, str]]:
        """Return what the table tells of each run; the summary of one that has ended is read once."""
        told = {}
        for name, path in self.runs().items():
            try:
                changed = (path / "summary.json").stat().st_mtime_ns
            except OSError:  # replaced a moment ago
                continue
            before = self._told.get(name)
            ended = before is not None and before[1] is not None and before[1]["status"] != "running"
            told[name] = (
                before if before is not None and ended and before[0] == changed else (changed, _row(name, path))
            )
        self._told = told
        return [row for _, row in told.values() if row is not None]


def _row(name: str, path: Path) -> dict[str, str] | None:
    summary = summary_of(path)
    if summary is None:
        return None
    metric, seconds = metric_of(summary), summary.get("virtual_seconds")
    found, (worst, mean, _) = score_of(summary, metric), score_columns(summary)
    sent = (summary.get("messages") or {}).get("bytes_on_air")
    status = summary["status"]
    if status == "running":
        with contextlib.suppress(P2plError):
            status = load_run(path).summary["status"]
    return {
        "link": f"/run/{quote(name)}/",
        "run": name,
        "status": status,
        "worst": show_score(metric, found.get(worst)),
        "mean": show_score(metric, found.get(mean)),
        "time": "-" if seconds is None else show_seconds(seconds),
        "bytes": "-" if sent is None else show_bytes(sent),
    }


# HTTP


def _handler_of(server: ResultsServer) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers requests for a server."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60.0  # s that a connection may be idle

        def do_GET(self) -> None:
            path = unquote(self.path.partition("?")[0])
            if self.headers.get("Host") not in server.names:
                self._text(403, "this server answers requests to its own address only")
            elif path == "/":
                self._page(200, _index(server))
            elif path == "/events":
                self._events()
            elif path.startswith("/run/"):
                self._run(path.removeprefix("/run/").strip("/") or ".")
            else:
                self._text(404, "there is no such page")

        def _run(self, name: str) -> None:
            folder = server.runs().get(name)  # by name, so no path leads elsewhere
            if folder is None:
                self._text(404, f"there is no run {name!r}")
                return
            try:
                self._page(200, page_of(load_run(folder), live=True))
            except P2plError as error:
                self._text(500, str(error))

        def _events(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            told: Any = None
            with contextlib.suppress(ConnectionError):
                while not server.closed.is_set():
                    rows = server.rows()
                    if rows != told:
                        self.wfile.write(f"data: {json.dumps(rows)}\n\n".encode())
                        told = rows
                    else:
                        self.wfile.write(b": still here\n\n")
                    self.wfile.flush()
                    time.sleep(_EVERY)
            self.close_connection = True

        def _page(self, status: int, text: str) -> None:
            self._send(status, "text/html; charset=utf-8", text)

        def _text(self, status: int, text: str) -> None:
            self._send(status, "text/plain; charset=utf-8", text + "\n")

        def _send(self, status: int, kind: str, text: str) -> None:
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the terminal belongs to the run."""

    return Handler


def _index(server: ResultsServer) -> str:
    """Return the page with the table of runs."""
    style, script = asset("page.css"), asset("index.js")
    page: str = template_of("index.html").render(
        folder=str(server.folder),
        rows=server.rows(),
        style=style,
        script=script,
        policy=f"default-src 'none'; base-uri 'none'; connect-src 'self'; "
        f"style-src {hashed(style)}; script-src {hashed(script)}",
    )
    return page
