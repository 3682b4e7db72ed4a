"""A Hugging Face hub on loopback: repositories at one commit, as its client's downloads need it."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef" * 2 + "01234567"
LARGE = (".safetensors", ".parquet")
"""Endings of files that the hub keeps by their SHA-256; others have git's own digest."""


@dataclass
class Hub:
    """A running hub: its address, what it was asked for, and the tokens that it was shown."""

    url: str
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)


def _digest(name: str, content: bytes) -> str:
    if name.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(name: str, content: bytes) -> dict[str, Any]:
    size, digest = len(content), _digest(name, content)
    plain = {"type": "file", "path": name, "size": size, "oid": digest}
    if not name.endswith(LARGE):
        return plain
    return plain | {"oid": "0" * 40, "lfs": {"oid": digest, "size": size, "pointerSize": 130}}


@contextmanager
def serve(
    repositories: Mapping[str, Mapping[str, bytes]], altered: Mapping[str, bytes]
) -> Iterator[Hub]:
    """Serve repositories such as `models/owner/name`; files of `altered` are not sent as listed."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _send(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _answer(self, body: bytes = b"") -> None:
            parts = urlsplit(self.path)
            path = unquote(parts.path)
            made.asked.append(f"{self.command} {path}")
            if token := self.headers.get("Authorization"):
                made.tokens.add(token)
            for key, files in repositories.items():
                kind, name = key.split("/", 1)
                if path.startswith(f"/api/{key}"):
                    return self._tell(path.removeprefix(f"/api/{key}"), name, files, body)
                prefix = f"/{name if kind == 'models' else key}/resolve/{COMMIT}/"
                if path.startswith(prefix) and (file := path.removeprefix(prefix)) in files:
                    content = altered.get(f"{key}/{file}", files[file])
                    etag = f'"{_digest(file, files[file])}"'
                    return self._send(200, content, ETag=etag, X_Repo_Commit=COMMIT)
            return self._send(404, b"{}", X_Error_Code="EntryNotFound")

        def _tell(self, rest: str, name: str, files: Mapping[str, bytes], body: bytes) -> None:
            if rest in ("", f"/revision/{COMMIT}"):
                siblings = [{"rfilename": file} for file in files]
                return self._json({"id": name, "sha": COMMIT, "siblings": siblings, "tags": []})
            if rest.startswith("/paths-info/"):
                paths = json.loads(body)["paths"]
                return self._json([_entry(path, files[path]) for path in paths if path in files])
            if not rest.startswith(f"/tree/{COMMIT}"):
                return self._send(404, b"{}", X_Error_Code="RevisionNotFound")
            folder = rest.removeprefix(f"/tree/{COMMIT}").strip("/")
            inside = {
                file: file.removeprefix(folder).strip("/")
                for file in files
                if not folder or file.startswith(f"{folder}/")
            }
            if "recursive=true" in self.path:
                return self._json([_entry(file, files[file]) for file in inside])
            entries = [_entry(file, files[file]) for file, own in inside.items() if "/" not in own]
            folders = {file.rsplit("/", 1)[0] for file, own in inside.items() if "/" in own}
            empty = {"type": "directory", "oid": "0" * 40, "size": 0}
            return self._json(entries + [empty | {"path": path} for path in sorted(folders)])

        def _json(self, record: Any) -> None:
            self._send(200, json.dumps(record).encode(), Content_Type="application/json")

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
