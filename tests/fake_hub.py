"""A loopback server that implements the Hub's upload API and records the uploaded files."""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789" * 4
TOKEN = "hf_made_up"


class FakeHub:
    """`with FakeHub() as hub`: `hub.url`, `hub.repos` {name: visibility}, `hub.files` {path: bytes}, `hub.messages`."""

    def __enter__(self):
        self.clear()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def clear(self):
        self.repos: dict[str, str | None] = {}
        self.files: dict[str, bytes] = {}
        self.messages: list[str] = []
        self.uploads: dict[str, bytes] = {}

    def create(self, body):
        """The answer and its status: 409 for a repository that exists, as the Hub has it."""
        name = "/".join(filter(None, [body.get("organization") or "me", body["name"]]))
        is_new = name not in self.repos
        self.repos.setdefault(name, body.get("visibility"))
        return {"url": f"{self.url}/{name}", "name": name, "id": name}, 200 if is_new else 409

    def info(self, name):
        return {"id": name, "sha": COMMIT, "siblings": [], "private": self.repos[name] == "private"}

    def tree(self):
        return [{"type": "file", "path": path, "size": len(file), "oid": COMMIT} for path, file in self.files.items()]

    def preupload(self, body):
        """Weights go by large-file storage, everything else in the commit, as on the Hub."""
        modes = {file["path"]: "lfs" if file["path"].endswith(".safetensors") else "regular" for file in body["files"]}
        return {
            "files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()],
            "commitOid": COMMIT,
        }

    def large_files(self, body):
        sent = [{"oid": part["oid"], "size": part["size"]} for part in body["objects"]]
        actions = [{"upload": {"href": f"{self.url}/store/{part['oid']}", "header": {}}} for part in sent]
        objects = [{**part, "actions": action} for part, action in zip(sent, actions, strict=True)]
        return {"transfer": "basic", "objects": objects}

    def commit(self, repo, lines):
        for line in map(json.loads, filter(None, lines.splitlines())):
            value = line["value"]
            if line["key"] == "header":
                self.messages.append(value["summary"])
            elif line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[value["path"]] = self.uploads[value["oid"]]
            elif line["key"] == "deletedFile":
                del self.files[value["path"]]
        return {"commitUrl": f"{self.url}/{repo}/commit/{COMMIT}", "commitOid": COMMIT, "success": True}


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_POST(self):  # noqa: N802  # the name that http.server calls
        body, path = self.read_body(), self.path.partition("?")[0]
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if not self.is_known():
            return None
        if path == "/api/repos/create":
            return self.answer(*self.hub.create(json.loads(body)))
        if "/preupload/" in path:
            return self.answer(self.hub.preupload(json.loads(body)))
        if path.endswith("/info/lfs/objects/batch"):
            return self.answer(self.hub.large_files(json.loads(body)))
        if "/commit/" in path:
            return self.answer(self.hub.commit("/".join(path.split("/")[3:5]), body.decode()))
        return self.answer({"error": f"No such call: {path}"}, 404)

    def do_PUT(self):  # noqa: N802  # the name that http.server calls
        body = self.read_body()
        digest = self.path.rpartition("/")[2]
        assert hashlib.sha256(body).hexdigest() == digest
        self.hub.uploads[digest] = body
        self.answer({})

    def do_GET(self):  # noqa: N802  # the name that http.server calls
        if not self.is_known():
            return None
        if self.path.startswith("/api/whoami"):
            return self.answer({"name": "me", "type": "user", "orgs": []})
        found = re.match(r"/api/models/([^/]+/[^/?]+)(/tree/)?", self.path)
        if found is None:
            return self.answer({"error": f"No such call: {self.path}"}, 404)
        if found[1] not in self.hub.repos:
            return self.answer({"error": "Repository not found"}, 404)
        return self.answer(self.hub.tree() if found[2] else self.hub.info(found[1]))

    do_HEAD = do_GET  # noqa: N815  # likewise

    def is_known(self) -> bool:
        """Whether the caller has the token; else it is told."""
        known = self.headers.get("authorization") == f"Bearer {TOKEN}"
        if not known:
            self.answer({"error": "Invalid username or password."}, 401)
        return known

    def read_body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            chunks = iter(lambda: self.rfile.read(int(self.rfile.readline(), 16) + 2)[:-2], b"")
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def answer(self, content, status=200):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if status == 404:
            self.send_header("x-error-code", "RepoNotFound")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_):
        pass
