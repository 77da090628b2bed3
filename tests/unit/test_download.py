"""Downloads from a server of this process: continued where they broke off, worth nothing with another digest."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from wsklab.deadline import Deadline
from wsklab.download import fetch
from wsklab.errors import DeadlineExceeded, HostError, UsageError

CONTENT = bytes(range(256)) * 20000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves `CONTENT`; `cut` bytes of it, then the connection breaks."""

    def __init__(self) -> None:
        self.cut: int | None = None
        self.ranges: list[str | None] = []
        self.resumes = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                outer.ranges.append(asked)
                if self.path == "/moved":
                    self.send_response(302)
                    self.send_header("Location", "/file")
                    self.end_headers()
                    return
                if self.path != "/file":
                    self.send_error(404)
                    return
                start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and outer.resumes else 0
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(CONTENT) - start))
                self.end_headers()
                self.wfile.write(CONTENT[start : outer.cut])
                if outer.cut is not None:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign] - a client that leaves is no news
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def url(self, path: str = "/file") -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}{path}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def get(server: Server, target: Path, path: str = "/file", *, sha256: str = DIGEST, seconds: float = 20) -> Path:
    deadline = Deadline.after(seconds)
    return fetch(
        server.url(path), target, sha256=sha256, size=len(CONTENT), deadline=deadline, progress=lambda *_: None
    )


def test_a_file_comes_once(server: Server, tmp_path: Path) -> None:
    """The second call asks nobody; redirections are followed."""
    assert get(server, tmp_path / "deep" / "file", "/moved").read_bytes() == CONTENT
    asked = len(server.ranges)
    get(server, tmp_path / "deep" / "file")
    assert len(server.ranges) == asked


def test_a_broken_download_goes_on(server: Server, tmp_path: Path) -> None:
    """Only the rest is asked for."""
    server.cut = 3_000_000
    with pytest.raises(HostError, match="broke off") as caught:
        get(server, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    kept = (tmp_path / "file.part").stat().st_size
    assert 0 < kept <= 3_000_000
    assert str(kept) in caught.value.why
    server.cut = None
    assert get(server, tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges[-1] == f"bytes={kept}-"
    assert not (tmp_path / "file.part").exists()


def test_a_server_that_cannot_go_on_sends_all(server: Server, tmp_path: Path) -> None:
    """Nothing is appended to what is there."""
    (tmp_path / "file.part").write_bytes(b"old")
    server.resumes = False
    assert get(server, tmp_path / "file").read_bytes() == CONTENT


def test_another_content_is_thrown_away(server: Server, tmp_path: Path) -> None:
    """A rotated link, or a file that somebody changed."""
    with pytest.raises(UsageError, match="has another file now") as caught:
        get(server, tmp_path / "file", sha256="0" * 64)
    assert DIGEST in caught.value.why
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_is_gone(server: Server, tmp_path: Path) -> None:
    """The server's word, and the way round."""
    with pytest.raises(UsageError) as caught:
        get(server, tmp_path / "file", "/gone")
    assert "404" in caught.value.why
    assert "--iso" in caught.value.fix


def test_nobody_answers(tmp_path: Path) -> None:
    """A host error: it may work later."""
    with pytest.raises(HostError, match="broke off"):
        fetch(
            "http://127.0.0.1:9/file", tmp_path / "f", sha256=DIGEST, size=1, deadline=Deadline.after(5),
            progress=lambda *_: None,
        )  # fmt: skip


def test_time_is_over(server: Server, tmp_path: Path) -> None:
    """What came stays for the next time."""
    with pytest.raises(DeadlineExceeded):
        get(server, tmp_path / "file", seconds=0)
    assert (tmp_path / "file.part").stat().st_size > 0
