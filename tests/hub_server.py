"""A hub on this machine: as much of the Hugging Face hub's language as its own libraries speak when they read.

    with HubServer() as hub:
        hub.add("someone/model", folder)
        hub.requests        what was asked for, as "GET /api/models/someone/model/revision/main"

Whoever reads from it names its `address` as HF_ENDPOINT, before the library is imported.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_INFO = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/revision/([^/]+))?")
_TREE = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)/(tree|paths-info)/([^/]+)(?:/(.+))?")
_FILE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class HubServer:
    """Folders as repositories of one commit each; started and stopped as a context."""

    def __init__(self) -> None:
        """Listen at a free port of this machine; nothing is answered before the context begins."""
        self.requests: list[str] = []
        self.folders: dict[tuple[str, str], Path] = {}
        self.gated: set[str] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def address(self) -> str:
        """What HF_ENDPOINT must be."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def add(self, name: str, folder: Path, *, kind: str = "models", gated: bool = False) -> None:
        """Serve a folder as the repository `name`; everybody may see a gated one, and nobody may read it."""
        self.folders[kind, name] = folder
        if gated:
            self.gated.add(name)

    def fetched(self) -> set[str]:
        """Return the files of repositories whose bytes went out."""
        asked = (request.partition(" ") for request in self.requests)
        found = (_FILE.fullmatch(path) for method, _, path in asked if method == "GET")
        return {match[4] for match in found if match}

    def __enter__(self) -> "HubServer":
        """Begin to answer."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop to answer and to listen."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def ask_this_hub(hub: HubServer, home: Path, monkeypatch: Any) -> None:
    """Let the libraries of this process, which may be imported long since, ask a hub, and keep its files at `home`."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))


def commit_of(name: str) -> str:
    """Return the one commit of a repository."""
    return hashlib.sha1(name.encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """One request; in HTTP/1.0, so that no connection outlives the hub."""

    def __init__(self, hub: HubServer, *arguments: Any) -> None:
        """Answer a request to `hub`."""
        self._hub = hub
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer with a description, a listing or a file."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        path = unquote(urlsplit(self.path).path)
        self._hub.requests.append(f"{self.command} {path}")
        if match := _TREE.fullmatch(path):
            self._answer_listing(*match.groups(), asked=body)
        elif match := _FILE.fullmatch(path):
            self._answer_file(match[1] or "models", *match.groups()[1:])
        elif match := _INFO.fullmatch(path):
            self._answer_info(*match.groups())
        else:
            self._refuse(404, "", "no such page")

    do_HEAD = do_POST = do_GET

    def _folder(self, kind: str, name: str, revision: str | None, *, to_read: bool = False) -> Path | None:
        """Return a repository's folder; None where the request has been refused."""
        folder = self._hub.folders.get((kind, name))
        if folder is None:
            # The real hub does not tell strangers which repositories there are.
            self._refuse(401, "RepoNotFound", "Repository not found")
        elif revision not in (None, "main", commit_of(name)):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif to_read and name in self._hub.gated:
            self._refuse(401, "GatedRepo", f"Access to {kind[:-1]} {name} is restricted.")
        else:
            return folder
        return None

    def _answer_info(self, kind: str, name: str, revision: str | None) -> None:
        if folder := self._folder(kind, name, revision):
            siblings = [{"rfilename": path} for path, _ in _files(folder)]
            gated = "manual" if name in self._hub.gated else False
            about = {"_id": commit_of(name)[:24], "id": name, "private": False, "gated": gated, "tags": []}
            self._answer_json({**about, "sha": commit_of(name), "siblings": siblings})

    def _answer_listing(self, kind: str, name: str, verb: str, revision: str, place: str | None, *, asked: str) -> None:
        if not (folder := self._folder(kind, name, revision)):
            return
        entries = list(_entries(folder))
        if verb == "paths-info":
            wanted = json.loads(asked)["paths"]
            entries = [entry for entry in entries if entry["path"] in wanted]
        else:
            inside = f"{place}/" if place else ""
            entries = [entry for entry in entries if entry["path"].startswith(inside)]
            if inside and not entries:
                self._refuse(404, "EntryNotFound", f"{place} does not exist")
                return
            if "recursive=true" not in self.path.lower():
                entries = [entry for entry in entries if "/" not in entry["path"].removeprefix(inside)]
        self._answer_json(entries)

    def _answer_file(self, kind: str, name: str, revision: str, place: str) -> None:
        if not (folder := self._folder(kind, name, revision, to_read=True)):
            return
        files = dict(_files(folder))
        if place not in files:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        content, status = files[place].read_bytes(), 200
        headers = {"ETag": f'"{_blob(content)}"', "X-Repo-Commit": commit_of(name), "Accept-Ranges": "bytes"}
        if part := _RANGE.fullmatch(self.headers.get("Range") or ""):
            first, last = int(part[1]), min(int(part[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        self._answer(status, content, headers)

    def _answer_json(self, content: Any) -> None:
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._answer(status, message.encode(), {"X-Error-Code": code, "X-Error-Message": message})

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing: the hub keeps its own list."""


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


def _entries(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what a listing tells of each file and folder."""
    for path in sorted(folder.rglob("*")):
        entry: dict[str, Any] = {"path": path.relative_to(folder).as_posix()}
        if path.is_file():
            content = path.read_bytes()
            yield {**entry, "type": "file", "size": len(content), "oid": _blob(content)}
        else:
            yield {**entry, "type": "directory", "size": 0, "oid": commit_of(entry["path"])}


def _blob(content: bytes) -> str:
    """Return the name that git gives to a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
