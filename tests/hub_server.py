"""A hub of one repository on this machine, for tests of the hub's own client libraries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve_hub(folder: Path, repository: str, kind: str) -> Iterator[str]:
    """Serve the files in `folder` as a `repository` of `kind` "datasets" or "models"; yield the address."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    api = f"/api/{kind}/{repository}"
    resolve = f"/{'datasets/' if kind == 'datasets' else ''}{repository}/resolve/{COMMIT}/"

    folders = {parent.as_posix() for name in files for parent in Path(name).parents} - {"."}

    def entry(name: str) -> dict[str, Any]:
        if name in folders:
            return {"type": "directory", "path": name, "oid": _etag(name.encode()), "size": 0}
        return {"type": "file", "path": name, "size": len(files[name]), "oid": _etag(files[name])}

    def listing(under: str, recursive: bool) -> list[dict[str, Any]]:
        names = sorted({*files, *folders})
        inside = [name for name in names if not under or name.startswith(f"{under}/")]
        depth = under.count("/") + 1 if under else 0
        return [entry(name) for name in inside if recursive or name.count("/") == depth]

    class Hub(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            wanted = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body).get("paths", [])
            self._json([entry(name) for name in wanted if name in files or name in folders])

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if path in (api, f"{api}/revision/{COMMIT}"):
                self._json(
                    {
                        "id": repository,
                        "sha": COMMIT,
                        "siblings": [{"rfilename": name} for name in files],
                        "tags": [],
                    }
                )
            elif path.startswith(f"{api}/tree/{COMMIT}"):
                under = path.removeprefix(f"{api}/tree/{COMMIT}").strip("/")
                asked = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])
                self._json(listing(under, asked[0].lower() == "true"))
            elif path.startswith(resolve) and path.removeprefix(resolve) in files:
                self._answer(files[path.removeprefix(resolve)], {"X-Repo-Commit": COMMIT})
            else:
                self.send_response(404)
                self.send_header(
                    "X-Error-Code", "EntryNotFound" if path.startswith(resolve) else "RepoNotFound"
                )
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _json(self, value: object) -> None:
            self._answer(json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _answer(self, body: bytes, headers: dict[str, str]) -> None:
            start, end = 0, len(body)
            asked = self.headers.get("Range")
            if asked:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                start, end = int(first), min(int(last) + 1, end) if last else end
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(body)}")
            else:
                self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("ETag", f'"{_etag(body)}"')
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[start:end])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _etag(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
