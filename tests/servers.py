"""Small servers on this machine: a web server, and a stand-in for the Hugging Face hub."""

import hashlib
import http.server
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec


@contextmanager
def serving(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a free port of the loopback interface, and give the server's URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class WebServer(http.server.BaseHTTPRequestHandler):
    """Serves the files of a folder, whole or in the parts that are asked for."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, folder: Path, parts: bool = True) -> None:
        self.folder = folder
        self.parts = parts
        super().__init__(*args)

    def do_HEAD(self) -> None:
        """Answer without the content."""
        self.answer(with_content=False)

    def do_GET(self) -> None:
        """Answer with the content."""
        self.answer(with_content=True)

    def answer(self, *, with_content: bool) -> None:
        """Send the file that the path names."""
        path = self.folder / self.path.split("?")[0].lstrip("/")
        self.send_file(path if path.is_file() else None, with_content=with_content)

    def send_file(
        self, path: Path | None, *, with_content: bool, headers: dict[str, str] | None = None
    ) -> None:
        """Send a file, or 404 if it is None."""
        content = path.read_bytes() if path else b"no such file"
        status, wanted = 200 if path else 404, self.headers.get("Range")
        tag = hashlib.sha256(content).hexdigest()
        more = {"ETag": f'"{tag}"', **(headers or {})}
        if path and self.parts and wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(content)), len(content) - 1)
            more["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            status, content = 206, content[start : end + 1]
        self.send(status, content, more, with_content=with_content)

    def send(
        self, status: int, content: bytes, headers: dict[str, str], *, with_content: bool = True
    ) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Hub(WebServer):
    """Serves a folder as the dataset team/rows of the hub, as far as its file system asks."""

    def answer(self, *, with_content: bool) -> None:
        """Answer a question of the hub's interface, or send a file."""
        path = self.path.split("?")[0]
        file = path.rpartition("/resolve/")[2].partition("/")[2]
        if "/resolve/" in path:
            local = self.folder / file
            headers = {"X-Repo-Commit": "0" * 40, "X-Linked-Size": str(local.stat().st_size)}
            self.send_file(local, with_content=with_content, headers=headers)
        elif path == "/api/datasets/team/rows" or "/revision/" in path:
            self.send_json({"id": "team/rows", "sha": "0" * 40, "siblings": []})
        elif "/paths-info/" in path:
            length = int(self.headers["Content-Length"])
            asked = self.rfile.read(length).decode()
            self.send_json([self.told(p) for p in self.files() if p.name in asked])
        elif "/tree/" in path:
            inside = path.partition("/tree/")[2].partition("/")[2]
            recursive = "recursive=true" in self.path.lower()
            found = [
                p for p in self.folder.rglob("*")
                if (recursive or p.parent == self.folder / inside)
                and (self.folder / inside) in p.parents
            ]  # fmt: skip
            self.send_json([self.told(p) for p in found])
        else:
            self.send(404, b"{}", {})

    def do_POST(self) -> None:
        """Answer as to a GET."""
        self.answer(with_content=True)

    def files(self) -> list[Path]:
        """Return all files."""
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def told(self, path: Path) -> dict[str, Any]:
        """Describe a file or folder as the hub does."""
        name = str(path.relative_to(self.folder))
        oid = hashlib.sha1(name.encode()).hexdigest()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": oid, "size": 0}
        return {"type": "file", "path": name, "oid": oid, "size": path.stat().st_size}

    def send_json(self, value: Any) -> None:
        """Send a value as JSON."""
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})


class ModelHub(WebServer):
    """Serves a folder as a model of the hub. It also knows a gated model, and denies the others.

    Args:
        model: the model's id.
        cut: asked with the path and the Range of each download, how many bytes to send before the
            connection breaks. None means all.
    """

    def __init__(
        self, *args: Any, model: str, cut: Callable[[str, str | None], int | None], **named: Any
    ) -> None:
        self.model = model
        self.cut = cut
        super().__init__(*args, **named)

    def answer(self, *, with_content: bool) -> None:
        """Answer a question of the hub's interface, or send a file."""
        path = self.path.split("?")[0]
        if "team/gated" in path:
            self.deny(403, "GatedRepo")
        elif self.model not in path:
            self.deny(401, "RepoNotFound")  # the hub does not tell what is private
        elif "/revision/" in path and not path.endswith("/revision/main"):
            self.deny(404, "RevisionNotFound")
        elif "/resolve/" in path:
            file = self.folder / path.rpartition("/")[2]
            self.sent = self.cut(file.name, self.headers.get("Range")) if with_content else None
            self.send_file(file, with_content=with_content, headers={"X-Repo-Commit": "0" * 40})
        elif "/tree/" in path:  # release 2 of the client asks for a list of the files
            oid = hashlib.sha1(path.encode()).hexdigest()
            self.send_json(
                [
                    {"type": "file", "path": file.name, "oid": oid, "size": file.stat().st_size}
                    for file in self.folder.iterdir()
                ]
            )
        else:
            names = [{"rfilename": file.name} for file in self.folder.iterdir()]
            self.send_json({"id": self.model, "sha": "0" * 40, "siblings": names})

    def send_json(self, value: Any) -> None:
        """Send a value as JSON."""
        self.sent = None
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def deny(self, status: int, code: str) -> None:
        """Send an error as the hub does."""
        self.sent = None
        self.send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": "no"})

    def send(
        self, status: int, content: bytes, headers: dict[str, str], *, with_content: bool = True
    ) -> None:
        """Send an answer, and break the connection if it is to break."""
        if self.sent is None:
            super().send(status, content, headers, with_content=with_content)
            return
        whole = {"Content-Length": str(len(content)), **headers}
        super().send(status, content[: self.sent], whole)
        self.close_connection = True


@contextmanager
def s3_store() -> Iterator[dict[str, str]]:
    """Serve an empty object store, and give the environment that finds it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    # Connections to the store of an earlier test lead nowhere.
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        # All servers of a process share their objects.
        urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST"))
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        server.stop()
