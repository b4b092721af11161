"""``distill serve``: its curl line works, and it answers as ``distill predict`` does."""

import signal
import socket
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from flows.cli.main import main
from sentidistill import load
from tests.support.prediction import tiny_student
from tests.support.serving import Server, started

TOKEN = "0123456789abcdef0123456789abcdef"
TEXTS = ["Room was tiny", "", "<|im_end|> {Text} %s", "x" * 60_000, "y" * 5_000, "  good "]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_student(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def server(folder) -> Iterator[Server]:
    (folder.parent / "to ken").write_text(TOKEN + "\n")
    with started(folder, "--port", 0, "--prompt-format", "raw", "--token-file", folder.parent / "to ken") as begun:
        yield begun


def test_it_answers_as_a_program_of_ones_own_would(server, folder):
    answer = httpx.post(f"{server.address}/predict", json={"inputs": TEXTS, "probabilities": True}, timeout=60,
                        headers={"Authorization": f"Bearer {TOKEN}"})
    found = answer.json()["predictions"]
    with load(str(folder), prompt_format="raw") as model:
        for text, one, expected in zip(TEXTS, found, model(TEXTS), strict=True):
            assert one["label"] == expected.label and (one["problem"] == expected.problem or len(text) > 50_000)
            if expected.label:
                assert one["probability"] == pytest.approx(expected.probability, abs=1e-4)
                assert one["probabilities"] == pytest.approx(dict(expected.probabilities), abs=1e-4)


def test_the_curl_line_works(server):
    assert TOKEN not in server.said + server.curl
    done = subprocess.run(["sh", "-c", server.curl], capture_output=True, text=True)
    assert done.stdout.startswith('{"predictions":[{"label":"'), done.stderr


def test_only_the_token_opens_it(server):
    for method, path in (("POST", "/predict"), ("GET", "/metrics")):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            answer = httpx.request(method, server.address + path, headers=headers, timeout=60)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert httpx.get(f"{server.address}/health").json() == {"status": "ready", "texts_waiting": 0}


def test_the_page_needs_no_other_server(server):
    page = httpx.get(server.address, follow_redirects=True).text
    assert "://" not in page
    described = httpx.get(f"{server.address}/openapi.json").json()["paths"]
    assert set(described) == {"/predict", "/health", "/metrics"}
    examples = described["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]["examples"]
    for example in examples:
        assert httpx.post(f"{server.address}/predict", json=example, timeout=60, headers={
            "Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize(("options", "status"), [({"content": b"{"}, 400), ({"json": {"inputs": []}}, 422),
                                                 ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415)])
def test_a_wrong_request_is_one_paragraph(server, options, status):
    headers = {"content-type": "application/json", **options.pop("headers", {}), "Authorization": f"Bearer {TOKEN}"}
    answer = httpx.post(f"{server.address}/predict", headers=headers, **options)
    assert answer.status_code == status and answer.json()["detail"].count("\n") == 0


def test_bad_arguments_end_with_status_2(folder, capsys, monkeypatch):
    monkeypatch.delenv("SENTIDISTILL_TOKEN", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for arguments in (["--port", str(taken.getsockname()[1])], ["--host", "0.0.0.0"], ["--max-batch", "0"],
                          ["--token-file", "nowhere"], ["--host", "no.such.host.invalid"], ["--task", "sentimant"],
                          ["--cascade", "nowhere"]):
            with pytest.raises(SystemExit) as status:
                main(["serve", str(folder), *arguments])
            assert status.value.code == 2
            assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_ctrl_c_ends_it_with_status_130(server):
    """The last test: it ends the server."""
    status, said = server.stop(signal.SIGINT)
    assert status == 130 and "Traceback" not in said
