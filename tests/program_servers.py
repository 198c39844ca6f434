"""What git, pip and npm talk to: small servers that speak their real protocols. They are for `run_swarm`."""

import base64
import functools
import hashlib
import http.server
import io
import json
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@test", "-c", "init.defaultBranch=main")


class _Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is called there
        pass

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class GitServer(_Quiet):
    """git's own server of its smart protocol, for fetching and pushing, with the repositories of `root`."""

    def __init__(self, *args: Any, root: Path) -> None:
        self.root = root
        super().__init__(*args)

    def do_GET(self) -> None:
        self.run_backend(b"")

    def do_POST(self) -> None:
        self.run_backend(self.read_body())

    def run_backend(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REMOTE_USER": "tester",
            "REMOTE_ADDR": "127.0.0.1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.answer(int(headers.pop("Status", "200").split()[0]), headers["Content-Type"], content)


def make_git_server(folder: Path) -> Any:
    """With one repository, repo.git, that may be pushed to."""
    folder.mkdir(parents=True)
    subprocess.run([*GIT, "init", "--quiet", "work"], cwd=folder, check=True)
    (folder / "work/file.txt").write_text("cloned\n")
    # Enough that a push of it all is sent in pieces.
    (folder / "work/large.bin").write_bytes(os.urandom(3 * 1024 * 1024))
    subprocess.run([*GIT, "add", "."], cwd=folder / "work", check=True)
    subprocess.run([*GIT, "commit", "--quiet", "-m", "one"], cwd=folder / "work", check=True)
    subprocess.run([*GIT, "clone", "--quiet", "--bare", "work", "repo.git"], cwd=folder, check=True)
    subprocess.run(["git", "config", "http.receivepack", "true"], cwd=folder / "repo.git", check=True)
    subprocess.run([*GIT, "init", "--quiet", "--bare", "empty.git"], cwd=folder, check=True)
    subprocess.run(["git", "config", "http.receivepack", "true"], cwd=folder / "empty.git", check=True)
    return functools.partial(GitServer, root=folder)


class Pages(_Quiet):
    """Fixed answers by path: the kind and the content of each."""

    def __init__(self, *args: Any, pages: dict[str, tuple[str, bytes]]) -> None:
        self.pages = pages
        super().__init__(*args)

    def do_GET(self) -> None:
        found = self.pages.get(self.path.partition("?")[0])
        if found is None:
            self.answer(404, "text/plain", b"not here\n")
        else:
            self.answer(200, *found)

    def do_POST(self) -> None:
        self.read_body()
        self.answer(404, "text/plain", b"not here\n")


def make_package_index() -> Any:
    """An index as pip reads it, with the wheel of `hive-demo`, whose module says where it came from."""
    name = "hive_demo-1.0-py3-none-any.whl"
    files = {
        "hive_demo.py": "WORD = 'from the index'\n",
        "hive_demo-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: hive-demo\nVersion: 1.0\n",
        "hive_demo-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files["hive_demo-1.0.dist-info/RECORD"] = "".join(
        f"{path},,\n" for path in [*files, "hive_demo-1.0.dist-info/RECORD"]
    )
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    link = f'<!doctype html><html><body><a href="/files/{name}#sha256={digest}">{name}</a></body></html>'
    pages = {
        "/simple/hive-demo/": ("text/html", link.encode()),
        f"/files/{name}": ("application/octet-stream", content.getvalue()),
    }
    return functools.partial(Pages, pages=pages)


def make_registry(origin: str) -> Any:
    """A registry as npm reads it, at `origin`, with the package `hive-demo`."""
    manifest = {"name": "hive-demo", "version": "1.0.0", "main": "index.js"}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for path, text in (
            ("package/package.json", json.dumps(manifest)),
            ("package/index.js", "module.exports = 'from the registry'"),
        ):
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(text), 0o644
            archive.addfile(member, io.BytesIO(text.encode()))
    tarball = content.getvalue()
    dist = {
        "tarball": f"{origin}/hive-demo/-/hive-demo-1.0.0.tgz",
        "shasum": hashlib.sha1(tarball, usedforsecurity=False).hexdigest(),
        "integrity": "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode(),
    }
    about = {"name": "hive-demo", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {**manifest, "dist": dist}}}
    pages = {
        "/hive-demo": ("application/json", json.dumps(about).encode()),
        "/hive-demo/-/hive-demo-1.0.0.tgz": ("application/octet-stream", tarball),
    }
    return functools.partial(Pages, pages=pages)
