"""A local stand-in for Hugging Face's server: one small model, as slow as a download is, for its real client library."""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "Qwen/Tiny"
COMMIT = "a" * 40

_CHUNK = 1_000_000
_SECONDS_A_CHUNK = 0.03


def _files() -> dict[str, bytes]:
    content = random.Random(1)
    return {
        "config.json": b'{"model_type": "qwen2"}',
        "model-00001-of-00002.safetensors": content.randbytes(60_000_000),
        "model-00002-of-00002.safetensors": content.randbytes(40_000_000),
        "tokenizer.json": b"{}" * 1000,
    }


def digest(files: dict[str, bytes]) -> str:
    """The digest of all files in the order of their names."""
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(files[name])
    return whole.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if match := re.match(r"/api/models/[^/]+/[^/]+/(revision|tree)/", path):
            self._json(self._tree() if match[1] == "tree" else self._model())
        elif (match := re.match(r"/[^/]+/[^/]+/resolve/[^/]+/(.+)", path)) and match[1] in self.files:
            self._file(self.files[match[1]], body=body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _model(self) -> object:
        siblings = [{"rfilename": name, "size": len(content)} for name, content in self.files.items()]
        return {"id": MODEL, "modelId": MODEL, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings}

    def _tree(self) -> object:
        return [
            {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in self.files.items()
        ]

    def _json(self, answer: object) -> None:
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _file(self, content: bytes, *, body: bool) -> None:
        wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if body:
            for offset in range(start, len(content), _CHUNK):
                self.wfile.write(content[offset : offset + _CHUNK])
                time.sleep(_SECONDS_A_CHUNK)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A killed client is not an error of the server."""


@contextmanager
def hub() -> Iterator[tuple[str, str]]:
    """Address of a running server, and the digest of its model."""
    files = _files()
    handler = type("Handler", (_Handler,), {"files": files})
    server = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", digest(files)
    finally:
        server.shutdown()
        server.server_close()
