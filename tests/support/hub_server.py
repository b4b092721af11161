"""A stand-in for the Hugging Face Hub: a real HTTP server that takes uploads as huggingface_hub sends them (LFS)."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

TOKEN = "hf_writes"
READS = "hf_reads"


class Repository:
    """Files by branch, as git blobs and LFS objects; and the commits, newest last."""

    def __init__(self, private: bool) -> None:
        self.private = private
        self.branches: dict[str, dict[str, bytes]] = {"main": {}}
        self.commits = ["0" * 40]


class HubServer:
    """``repositories`` by name; ``requests``: method and path of each; ``spoil`` may answer instead (status, text)."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.spoil: Callable[[str], tuple[int, str] | None] = lambda request: None
        hub = self

        class Handler(_Handler):
            server_of = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: HubServer

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self) -> None:
        hub, body = self.server_of, self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        path = self.path.partition("?")[0]
        hub.requests.append(f"{self.command} {path}")
        if spoilt := hub.spoil(hub.requests[-1]):
            return self._send(spoilt[0], {"error": spoilt[1]})
        if path.startswith("/lfs/"):  # as a bucket's signed address, which takes no token
            oid = path.removeprefix("/lfs/")
            assert hashlib.sha256(body).hexdigest() == oid
            hub.objects[oid] = body
            return self._send(200, {})
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in (TOKEN, READS):
            return self._send(401, {"error": "Invalid user token."})
        if token == READS and self.command != "GET":
            return self._send(403, {"error": "This token has no right to write."})
        for pattern, method in _ROUTES.items():
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                return self._send(*method(hub, body, *found.groups()))
        return self._send(404, {"error": f"no such route: {self.command} {path}"})

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status >= 400 and "error" in answer:
            self.send_header("X-Error-Message", answer["error"])
            if status == 404:
                self.send_header("X-Error-Code", answer.get("code", "RepoNotFound"))
        self.end_headers()
        self.wfile.write(data)


Answer = tuple[int, dict[str, Any]]


def _create(hub: HubServer, body: bytes) -> Answer:
    asked = json.loads(body)
    name = f"{asked['organization'] or 'me'}/{asked['name']}"
    if name in hub.repositories:
        return 409, {"error": "You already created this model repo", "url": f"{hub.url}/{name}"}
    hub.repositories[name] = Repository(asked.get("visibility") == "private")
    return 200, {"url": f"{hub.url}/{name}", "name": name}


def _validate(hub: HubServer, body: bytes) -> Answer:
    parts = json.loads(body)["content"].split("---", 2)
    try:
        front = yaml.safe_load(parts[1])
        wrong = [] if isinstance(front, dict) and "license" in front else ["license is missing"]
    except (yaml.YAMLError, IndexError) as error:
        wrong = [str(error)]
    return (400 if wrong else 200), {"errors": [{"message": text} for text in wrong], "warnings": []}


def _branch_of(hub: HubServer, name: str, branch: str) -> dict[str, bytes] | None:
    return hub.repositories[name].branches.get(branch) if name in hub.repositories else None


def _info(hub: HubServer, _: bytes, name: str, branch: str | None = None) -> Answer:
    files = _branch_of(hub, name, branch or "main")
    if files is None:
        return 404, {"error": "Repository not found"}
    return 200, {"id": name, "sha": hub.repositories[name].commits[-1], "private": hub.repositories[name].private,
                 "tags": [], "downloads": 0, "likes": 0, "siblings": [{"rfilename": path} for path in files]}


def _make_branch(hub: HubServer, _: bytes, name: str, branch: str) -> Answer:
    branches = hub.repositories[name].branches
    if branch in branches:
        return 409, {"error": "Reference already exists"}
    branches[branch] = dict(branches["main"])
    return 200, {}


def _preupload(hub: HubServer, body: bytes, name: str, branch: str) -> Answer:
    files = _branch_of(hub, name, branch)
    if files is None:
        return 404, {"error": "Repository not found"}
    found = []
    for asked in json.loads(body)["files"]:
        large = asked["path"].endswith((".safetensors", ".gguf", ".onnx", ".data"))
        there = files.get(asked["path"])
        oid = None if there is None else hashlib.sha256(there).hexdigest() if large else hashlib.sha1(
            b"blob %d\0" % len(there) + there).hexdigest()
        found.append({"path": asked["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False,
                      "oid": oid})
    return 200, {"files": found}


def _batch(hub: HubServer, body: bytes, name: str) -> Answer:
    return 200, {"transfer": "basic", "objects": [
        {"oid": item["oid"], "size": item["size"], **({} if item["oid"] in hub.objects else {
            "actions": {"upload": {"href": f"{hub.url}/lfs/{item['oid']}"}}})}
        for item in json.loads(body)["objects"]]}


def _commit(hub: HubServer, body: bytes, name: str, branch: str) -> Answer:
    files = _branch_of(hub, name, branch)
    assert files is not None
    for line in map(json.loads, body.splitlines()):
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            files[value["path"]] = hub.objects[value["oid"]]
    commits = hub.repositories[name].commits
    commits.append(hashlib.sha1(body + str(len(commits)).encode()).hexdigest())
    return 200, {"commitUrl": f"{hub.url}/{name}/commit/{commits[-1]}", "commitOid": commits[-1]}


def _who(hub: HubServer, _: bytes) -> Answer:
    return 200, {"name": "me", "type": "user"}


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES: dict[str, Callable[..., Answer]] = {
    "GET /api/whoami-v2": _who, "POST /api/repos/create": _create,
    "POST /api/validate-yaml": _validate, f"GET /api/models/{_NAME}": _info,
    f"GET /api/models/{_NAME}/revision/([^/]+)": _info, f"POST /api/models/{_NAME}/branch/([^/]+)": _make_branch,
    f"POST /api/models/{_NAME}/preupload/([^/]+)": _preupload, f"POST /{_NAME}.git/info/lfs/objects/batch": _batch,
    f"POST /api/models/{_NAME}/commit/([^/]+)": _commit}
