"""A loopback server with the part of the Hugging Face hub's protocol that a client needs to read a repository."""

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub:
    """Repositories by (kind, name), each with its branches and the files of each commit; and faults to serve.

    The sets of faults hold addresses of files, ``OWNER/NAME/PATH``. A file in ``lost`` is listed, but missing. The
    connection that sends a file in ``cut`` ends after half of the file. A file in ``altered`` is sent with those bytes
    under the hash of the right bytes. ``resumed`` holds the files of which a client asked for the rest. The next
    requests are answered with the statuses and headers in ``refusals``, one each. Every answer waits ``seconds`` first.
    ``tokens`` holds the host and the token of every request.
    """

    def __init__(self):
        self.repositories: dict[tuple[str, str], dict] = {}
        self.port = 0
        self.resumed: set[str] = set()
        self.tokens: set[tuple[str, str]] = set()
        self.heal()

    def heal(self) -> None:
        """End all faults."""
        self.lost: set[str] = set()
        self.cut: set[str] = set()
        self.altered: dict[str, bytes] = {}
        self.refusals: list[tuple[int, dict[str, str]]] = []
        self.seconds = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def push(
        self, kind: str, name: str, files: dict[str, bytes], branch: str = "main", commit: str | None = None
    ) -> str:
        """Add a commit to a branch and return its 40 hex digits. ``kind`` is ``models`` or ``datasets``."""
        repository = self.repositories.setdefault((kind, name), {"branches": {}, "commits": {}})
        commit = commit or hashlib.sha1(f"{name}{len(repository['commits'])}".encode()).hexdigest()
        repository["commits"][commit] = files
        repository["branches"][branch] = commit
        return commit


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes) -> dict:
    """The entry of a file in a listing. As on the real hub, weights are in LFS, and git has a pointer to them."""
    entry = {"type": "file", "path": path, "size": len(content), "oid": _blob(content)}
    if _in_lfs(path):
        sha256 = hashlib.sha256(content).hexdigest()
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
        entry["oid"] = _blob(pointer)
        entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": len(pointer)}
    return entry


def _in_lfs(path: str) -> bool:
    return path.endswith(".safetensors")


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self._body = b""
        self._route()

    do_HEAD = do_GET

    def do_POST(self):
        self._body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._route()

    def _route(self):
        self.hub.tokens.add((self.headers.get("Host", "").split(":")[0], self.headers.get("Authorization", "")))
        time.sleep(self.hub.seconds)
        if self.hub.refusals:
            status, headers = self.hub.refusals.pop(0)
            return self._send(status, b"{}", headers)
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        stored = parts[0] == "store"  # the address to which the hub redirects for a file in LFS
        parts = parts[stored:]
        if parts[0] == "api":
            kind, name, rest = parts[1], "/".join(parts[2:4]), parts[4:]
        elif "resolve" in parts:
            kind = "datasets" if parts[0] == "datasets" else "models"
            place = parts.index("resolve")
            name, rest = "/".join(parts[place - 2 : place]), parts[place:]
        else:
            return self._send(404, b"{}")
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        what, revision = (rest[0], rest[1]) if rest else ("revision", "main")
        commit = repository["branches"].get(revision, revision)
        files = repository["commits"].get(commit)
        if files is None:
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        if what == "resolve":
            return self._file(name, commit, files, "/".join(rest[2:]), stored)
        entries = [_entry(path, content) for path, content in files.items()]
        if what == "revision":
            siblings = [{"rfilename": path} for path in files]
            return self._json({"id": name, "sha": commit, "siblings": siblings, "private": False, "tags": []})
        if what == "tree":
            inside = "/".join(rest[2:])
            return self._json([entry for entry in entries if entry["path"].startswith(inside)])
        if what == "paths-info":
            wanted = set(json.loads(self._body).get("paths", []))
            return self._json([entry for entry in entries if entry["path"] in wanted])
        return self._send(404, b"{}")

    def _file(self, name: str, commit: str, files: dict[str, bytes], path: str, stored: bool):
        if path not in files or f"{name}/{path}" in self.hub.lost:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        entry, headers = _entry(path, files[path]), {"X-Repo-Commit": commit}
        if "lfs" in entry and not stored:  # to the client, another name of this server is another host
            headers |= {"X-Linked-Etag": f'"{entry["lfs"]["oid"]}"', "X-Linked-Size": str(entry["size"])}
            headers["Location"] = f"http://localhost:{self.hub.port}/store{self.path}"
            return self._send(302, b"", headers)
        return self._content(f"{name}/{path}", files[path], headers | {"ETag": f'"{entry["oid"]}"'})

    def _content(self, address: str, content: bytes, headers: dict[str, str]):
        """Send a file, or the part of it that a Range header asks for, with the faults of its address."""
        assert len(content) == len(self.hub.altered.get(address, content))
        content = self.hub.altered.get(address, content)
        status, start = 200, 0
        if asked := self.headers.get("Range"):
            self.hub.resumed.add(address)
            status, start = 206, int(asked.removeprefix("bytes=").split("-")[0])
            headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        sent = max(0, len(content) // 2 - start) if address in self.hub.cut else None
        self._send(status, content[start:], headers | {"Accept-Ranges": "bytes"}, sent)

    def _json(self, value: object):
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, sent: int | None = None):
        """Answer a request. If ``sent`` is given, the connection ends after that number of bytes of the body."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:sent])
            self.close_connection = sent is not None


@contextmanager
def running_hub():
    """A :class:`Hub` on a free loopback port. The server ends with the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
