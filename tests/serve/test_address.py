"""Where the server listens, who may use it, and what cannot be served."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from served import serving

from harmless_runtime import bundled
from processes import Harmless
from reading import read_rows

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

ROW = next(iter(read_rows(bundled.ROWS)))
WARNING = "can use this server, because it asks for no token: --token-file names a file with one"


@pytest.mark.parametrize("text", ["s3cret\n", "\ufeff\n s3cret \r\n\n"])
def test_a_token(text: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(text.encode())
    with serving(tmp_path, "--token-file", "token", "--host", "0.0.0.0") as server:
        url = f"http://127.0.0.1:{urlsplit(server.url).port}"
        for given, status in (
            (None, 401), ("s3cret", 401), ("Bearer other", 401), ("bearer s3cret", 200),
        ):  # fmt: skip
            headers = {} if given is None else {"Authorization": given}
            answer = httpx.post(url + "/score", json=ROW, headers=headers, timeout=60)
            assert answer.status_code == status
            assert httpx.get(url + "/metrics", headers=headers).status_code == status
        assert httpx.get(url + "/health").status_code == 200
        assert WARNING not in server.log.read_text()


def test_what_cannot_be_served(tmp_path: Path, harmless: Harmless) -> None:
    (tmp_path / "two").write_text("s3cret\n\nother\n")
    (tmp_path / "none").write_bytes(b"\xef\xbb\xbf\n")
    (tmp_path / "nul").write_bytes(b"s3\x00cret\n")
    with socket.create_server(("127.0.0.1", 0)) as other:
        for options, code, message in (
            (("--port", str(other.getsockname()[1])), 1, "cannot listen at 127.0.0.1"),
            (("--token-file", "no"), 2, "cannot read no"),
            (("--token-file", "two"), 2, "two has 2 lines, and a token is a single one"),
            (("--token-file", "none"), 2, "none holds no token"),
            (("--token-file", "nul"), 2, "nul has a control character, which no client can send"),
            (("--port", "99999"), 2, "65535"),
            (("--host", ""), 2, "host is empty, and has to be an address to listen at"),
            (("--host", "a..b"), 1, "cannot listen at a..b:8000"),
            (("--columns", "instructions=a"), 2, "did you mean instruction?"),
        ):
            done = harmless("serve", "--model", "demo", *options, cwd=tmp_path)
            assert done.returncode == code, done.stderr
            assert message in done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("host", "warns"),
    [("0.0.0.0", True), ("0", True), ("::", True), ("localhost", False), ("127.1.2.3", False),
     ("::1", False), ("::ffff:127.0.0.1", False)],
)  # fmt: skip
def test_an_address_that_others_reach_gets_a_warning(
    host: str, warns: bool, tmp_path: Path, harmless: Harmless
) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as place:
            place.bind((host, 0))
    except OSError:
        pytest.skip(f"not run: this machine has no address {host}")
    # The model is missing, so that the command ends once it has a place to listen at.
    done = harmless("serve", "--model", str(tmp_path / "no"), "--host", host, "--port", "0")
    assert done.returncode in (1, 2)
    assert (WARNING in done.stderr) == warns, done.stderr
