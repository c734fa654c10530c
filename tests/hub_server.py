"""A loopback server that speaks as much of the Hugging Face hub's protocol as the client needs to read a repository."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub:
    """Repositories by (kind, name), each with its branches and the files of each commit."""

    def __init__(self):
        self.repositories: dict[tuple[str, str], dict] = {}
        self.url = ""

    def push(self, kind: str, name: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit to a branch; its 40 hex digits. ``kind`` is ``models`` or ``datasets``."""
        repository = self.repositories.setdefault((kind, name), {"branches": {}, "commits": {}})
        commit = hashlib.sha1(f"{name}{len(repository['commits'])}".encode()).hexdigest()
        repository["commits"][commit] = files
        repository["branches"][branch] = commit
        return commit


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


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
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
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
            return self._file(commit, files, "/".join(rest[2:]))
        entries = [
            {"type": "file", "path": path, "size": len(body), "oid": _blob(body)} for path, body in files.items()
        ]
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

    def _file(self, commit: str, files: dict[str, bytes], path: str):
        if path not in files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        headers = {"ETag": f'"{_blob(files[path])}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        return self._send(200, files[path], headers)

    def _json(self, value: object):
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def running_hub():
    """A :class:`Hub` on a free loopback port, ended with the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
