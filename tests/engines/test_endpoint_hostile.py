"""Endpoints that answer what they should not: whatever it is, it is typed, bounded, and said truly or not at all."""

import asyncio
import contextlib
import datetime
import gzip
import itertools
import json
import math
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.schema import Budget, Model, Teacher
from distill.engines.base import Output, Request, Sampling
from distill.engines.openai.client import Client
from distill.engines.openai.engine import OpenAIEngine
from distill.engines.openai.errors import RejectedError, TransientError
from distill.engines.openai.key import Key
from distill.engines.openai.responses import (
    MOST_TOKENS,
    error_message,
    listed,
    parse_json,
    printable,
    read_completion,
    read_models,
)
from distill.errors import InputError, ProcessDiedError
from distill.generation import pool
from distill.generation.budget import BudgetError
from distill.generation.manifests import read_responses
from distill.generation.run import generate
from distill.generation.status import status
from distill.models import Weights
from tests.support.endpoint import KEY, PACE, Server, asked, config, words
from tests.support.generation import in_threads, prompts_of, written

RIGHT = {"choices": [{"text": "\n one", "finish_reason": "stop"}],
         "usage": {"prompt_tokens": 3, "completion_tokens": 5}}
ESC = "\x1b[31mred\x07\u202e"


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.die()


@pytest.fixture
def opened() -> Iterator[Callable[..., OpenAIEngine]]:
    engines: list[OpenAIEngine] = []

    def open_on(*servers: Server, **more: Any) -> OpenAIEngine:
        engines.append(OpenAIEngine(config(*servers, **more), backoff=PACE))
        return engines[-1]

    yield open_on
    for engine in engines:
        engine.close()


def says(value: Any, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    return 200, value if isinstance(value, bytes) else json.dumps(value).encode(), headers


def values() -> st.SearchStrategy[Any]:
    plain = (st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
             | st.sampled_from([2**63, -1, 10**400, "stop", "length", "content_filter", [], {}, ["stop"]]))
    return plain | st.lists(plain, max_size=2) | st.dictionaries(st.sampled_from(["text", "type"]), plain)


def near(example: Any) -> st.SearchStrategy[Any]:
    """Return values of the form of an example, some parts of which are something else, or are missing."""
    if isinstance(example, dict):
        whole = st.fixed_dictionaries({}, optional={key: near(value) for key, value in example.items()})
    elif isinstance(example, list):
        whole = st.lists(near(example[0]), max_size=2)
    else:
        whole = st.just(example)
    return st.one_of(whole, whole, values())


PROTOCOL = {"choices": [{"message": {"content": "x", "refusal": "no"}, "text": "x", "finish_reason": "stop",
                         "stop_reason": "\n", "logprobs": {"content": [{"token": "x", "logprob": -1.0}]}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1}},
            "data": [{"id": "m", "owned_by": "vllm", "max_model_len": 100}]}


@given(near(PROTOCOL))
def test_whatever_a_server_answers_is_a_fault_or_has_types_and_bounds(reply: Any) -> None:
    if not isinstance(reply, dict):
        return
    reply = parse_json(json.dumps(reply).encode())
    try:
        answer = read_completion(reply)
        counts = (answer.n_prompt_tokens, answer.n_output_tokens, answer.n_cached_tokens)
        assert all(count is None or (type(count) is int and 0 <= count <= MOST_TOKENS) for count in counts)
        assert type(answer.text) is str and answer.finish_reason in ("stop", "length", "content_filter", "")
        assert answer.stopped_by is None or type(answer.stopped_by) is str
    except TransientError as fault:
        assert fault.reason in ("bad_answer", "server_error") and len(str(fault)) < 300
    try:
        for name, served in read_models(reply).items():
            assert type(name) is str and len(served.owned_by) <= 80
            assert served.max_model_len is None or 0 < served.max_model_len <= MOST_TOKENS
    except TransientError:
        pass


@given(st.binary() | st.text().map(str.encode) | values().map(lambda value: json.dumps({"error": value}).encode()))
def test_a_servers_words_are_short_and_can_be_shown(body: bytes) -> None:
    text = body.decode("latin-1")
    for said in (error_message(body.decode(errors="replace")), printable(text), listed([text] * 5000)):
        assert len(said) <= 800 and (said.isprintable() or "\xad" in said), said


def test_numbers_that_no_count_has_are_no_error_of_the_reader() -> None:
    assert parse_json(b'{"a": 1e400, "b": ' + b"9" * 5000 + b', "c": -' + b"9" * 5000 + b"}") == {
        "a": math.inf, "b": math.inf, "c": -math.inf}
    with pytest.raises(ValueError):
        parse_json(b"[" * 100_000)


@pytest.mark.parametrize(("content", "text"), [
    (None, ""), ([], ""), (["a", {"type": "text", "text": "b"}, {"type": "thinking", "thinking": "no"}], "ab"),
    ([{"type": "output_text", "text": "x"}, {"type": "image_url", "image_url": {}}], "x"), ("plain", "plain")])
def test_content_of_any_form_of_the_protocol_is_read(content: Any, text: str) -> None:
    assert read_completion({"choices": [{"message": {"content": content}}]}).text == text
    refused = {"message": {"content": None, "refusal": "I will not."}}
    assert read_completion({"choices": [refused]}).text == "I will not."


USAGES = [None, "many", [], {}, {"prompt_tokens": -3, "completion_tokens": -5}, {"prompt_tokens": 2**63}, {
    "prompt_tokens": True, "completion_tokens": "5"}, {"prompt_tokens": 3.5}, {
    "prompt_tokens": 0, "completion_tokens": 0}, b"1e400", b"9" * 5000]


def test_usage_that_cannot_be_is_estimated_and_said_to_be(
    opened: Any, server: Server, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps({**RIGHT, "usage": "USAGE"}).encode()
    engines = [opened(server, tokenizer=str(tiny_model), send_tokens=False), opened(server, tokenizer=None)]
    for usage in USAGES:
        told = b'{"prompt_tokens": %b, "completion_tokens": %b}' % (usage, usage) if isinstance(
            usage, bytes) else json.dumps(usage).encode()
        server.always = says(body.replace(b'"USAGE"', told))
        found = [engine.generate(asked("say one two"))[0] for engine in engines]
        assert words(found) == ["one", "one"] and all(output.counts_estimated for output in found), usage
        assert all(1 <= output.n_output_tokens <= 4 and 2 <= output.n_prompt_tokens <= 6 for output in found), usage
    assert caplog.text.count("does not say") == 2
    server.always = says(RIGHT)
    told_by_server = engines[0].generate(asked("say one two"))[0]
    assert (told_by_server.n_prompt_tokens, told_by_server.n_output_tokens) == (3, 5)
    assert not told_by_server.counts_estimated


@pytest.mark.parametrize("reason", [None, 7, True, [], ["stop"], {"type": "length"}, "odd", "eos", "x" * 10_000])
def test_an_answer_whose_end_has_no_known_reason_is_cut_off_where_it_is_as_long_as_allowed(
    opened: Any, server: Server, reason: Any
) -> None:
    server.always = says({"choices": [{"text": "one", "finish_reason": reason}], "usage": {
        "prompt_tokens": 3, "completion_tokens": 8}})
    engine = opened(server)
    short, long = (engine.generate([Request("a", "say one", Sampling(max_tokens=most))])[0] for most in (9, 8))
    assert (short.text, short.finish_reason) == ("one", "stop")
    assert long.finish_reason == ("stop" if reason == "eos" else "length")


def asked_once(server: Any, **more: Any) -> dict[str, Any]:
    """Ask without the pool, which would ask again."""
    async def ask() -> dict[str, Any]:
        client = Client(server.url, Key("NO_KEY"), more.get("timeout", 60.0), 1)
        try:
            return await client.post("/completions", {"model": "tiny", "prompt": "say one", "max_tokens": 5})
        finally:
            await client.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(("body", "headers", "said"), [
    (lambda: itertools.repeat(b" " * 65_536), {}, "more than 1,0"),
    (lambda: [gzip.compress(b'{"choices": "' + b"a" * (64 << 20))], {"Content-Encoding": "gzip"}, "more than 1,0"),
    (lambda: [b"\x1f\x8b" + b"damage"], {"Content-Encoding": "gzip"}, "packed, and damaged"),
    (lambda: [b"x"], {"Content-Encoding": "br"}, "packed as br"),
    (lambda: [b"<html>"], {"Content-Type": "text/html"}, "no JSON: <html>"),
], ids=["endless", "bomb", "damaged", "not asked for", "html"])
def test_a_body_is_read_within_bounds(
    server: Server, body: Callable[[], Any], headers: dict[str, str], said: str
) -> None:
    server.always = (200, body(), headers)
    with pytest.raises(TransientError, match=said) as error:
        asked_once(server)
    assert error.value.reason == "bad_answer" and server.n_sent < 20 << 20  # what is sent goes through large buffers


@pytest.mark.parametrize("packed", [gzip.compress, zlib.compress])
def test_an_answer_that_is_packed_is_read(opened: Any, server: Server, packed: Any) -> None:
    name = "gzip" if packed is gzip.compress else "deflate"
    server.always = says(packed(json.dumps(RIGHT).encode()), **{"Content-Encoding": name})
    assert words(opened(server).generate(asked("say one"))) == ["one"]


def test_of_a_refusal_without_end_the_beginning_is_said(server: Server) -> None:
    server.always = (400, itertools.repeat(f"{ESC} no ".encode() * 1000), {})
    with pytest.raises(RejectedError) as error:
        asked_once(server)
    assert str(error.value).isprintable() and len(str(error.value)) < 400 and server.n_sent < 20 << 20


def test_a_body_that_drips_for_ever_ends_with_the_time_an_answer_may_take(server: Server) -> None:
    def drips() -> Iterator[bytes]:
        while True:
            time.sleep(0.02)
            yield b" "

    server.always = (200, drips(), {})
    with pytest.raises(TransientError, match=r"no answer within 0\.2 seconds"):
        asked_once(server, timeout=0.2)


def test_names_of_models_are_said_few_and_short_and_without_escapes(opened: Any) -> None:
    server = Server(*(f"{ESC}{'n' * 300}{n}" for n in range(5000)))
    try:
        with pytest.raises(InputError, match="4,992 more, not tiny") as error:
            opened(server)
        assert str(error.value).isprintable() and len(str(error.value)) < 1500
    finally:
        server.die()


def test_no_part_of_the_key_is_said_where_a_message_is_cut_off(
    opened: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTIDISTILL_ENDPOINT_KEY", KEY)
    engine = opened(server)
    for before in range(300 - len(KEY) - 2, 301):
        server.always = (402, b"x" * before + KEY.encode() + b"y" * 500, {})
        with pytest.raises(InputError) as error:
            engine.generate(asked("say one"))
        assert KEY[:5] not in str(error.value)


def test_where_a_redirect_leads_is_said_and_not_followed(opened: Any, server: Server) -> None:
    other = Server()
    try:
        engine = opened(server)
        server.always = (307, b"", {"Location": f"{other.url}/completions?token=planted"})
        with pytest.raises(InputError, match="not followed") as error:
            engine.generate(asked("say one"))
        assert other.url in str(error.value) and "planted" not in str(error.value) and not other.seen
    finally:
        other.die()


def _problem(url: str, **more: Any) -> str:
    with pytest.raises(ProcessDiedError, match="No endpoint answers") as error:
        OpenAIEngine(config(**{"base_urls": [url], "outage_timeout": 0.05, **more}), backoff=PACE)
    return str(error.value)


def _certificate(folder: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "me")])
    now = datetime.datetime.now(datetime.UTC)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False).sign(key, hashes.SHA256()))
    path = folder / "server.pem"
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                       serialization.NoEncryption()) + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_why_there_is_no_connection_is_said_as_it_is(server: Server, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "Connection refused" in _problem(f"http://127.0.0.1:{port}/v1")
    assert "the name no-such-host.invalid is not found" in _problem("http://no-such-host.invalid/v1")
    assert "does the server speak plain http://?" in _problem(server.url.replace("http://", "https://"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(tmp_path))
    secure = Server()
    secure._server.socket = context.wrap_socket(secure._server.socket, server_side=True)
    try:
        said = _problem(f"https://localhost:{secure.port}/v1")
        assert "its TLS certificate is not accepted (self-signed certificate)" in said and "permitted" not in said
    finally:
        secure.die()


def test_a_proxys_password_stands_in_no_error(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", "http://me:planted@127.0.0.1:9")
    said = _problem("http://h.invalid/v1")
    assert "the proxy 127.0.0.1:9 cannot be reached (Connection refused)" in said
    monkeypatch.setenv("https_proxy", f"http://me:planted@127.0.0.1:{server.port}")  # knows no CONNECT
    refused = _problem("https://h.invalid/v1")
    assert f"the proxy 127.0.0.1:{server.port} let no connection pass (status 501)" in refused
    monkeypatch.setenv("http_proxy", f"http://me:planted@127.0.0.1:{server.port}")
    server.always = (407, b"", {})
    with pytest.raises(InputError, match="This is what a proxy says") as error:
        asked_once(server)
    said += str(error.value)
    for wrong in ("socks5://me:planted@host:1", "http://me:planted@host:port", "http://me:planted@"):
        monkeypatch.setenv("http_proxy", wrong)
        with pytest.raises(InputError, match="HTTP_PROXY") as error:
            OpenAIEngine(config(base_urls=["http://h.invalid/v1"]), backoff=PACE)
        said += str(error.value)
    assert "planted" not in said + refused + caplog.text


def asked_of(server: Server, run: Path, monkeypatch: pytest.MonkeyPatch, count: int = 60, **more: Any) -> Any:
    """Have a real engine answer a stage's prompts, from a thread of this process."""
    monkeypatch.setattr(pool, "executor", in_threads)
    monkeypatch.setattr(pool, "_TICK_SECONDS", 0.01)
    engine = {"kind": "openai", "base_urls": [server.url], "model": "tiny", "concurrency": 2, **more.pop("engine", {})}
    teacher = Teacher(model=Model(name="m"), shard_size=8, engine=engine, **more)
    generate("knowdist", written(run, prompts_of(count)), teacher, Weights(Path("m"), "m"), run, 42)
    return teacher


def test_a_budget_that_nothing_counts_for_is_refused_before_money_is_spent(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    server.always = says({"choices": [{"message": {"content": "an answer of some words"}, "finish_reason": "stop"}]})
    costs = {"price_per_million_output_tokens": 1e6 / 5, "budget": Budget(max_cost=10.0)}
    with pytest.raises(InputError, match=r"'tokenizer'.*max_cost"):
        asked_of(server, tmp_path / "a", monkeypatch, engine={"tokenizer": None}, **costs)
    assert len(server.seen) == 1 and server.seen[0]["max_tokens"] <= 16
    known = {"tokenizer": str(tiny_model), "send_tokens": False}
    with pytest.raises(BudgetError, match="max_cost"):  # of 10 answers, about: estimated with the tokenizer
        asked_of(server, tmp_path / "b", monkeypatch, engine=known, **costs)
    assert 5 <= len(server.seen) < 30
    free = asked_of(server, tmp_path / "c", monkeypatch, engine={"tokenizer": None}, price_per_million_output_tokens=1)
    found = status(tmp_path / "c", free)["knowdist"]
    assert found["n_estimated"] == found["done"] == 60 and found["cost"] > 0
    assert all(item.counts_estimated for item in read_responses(tmp_path / "c" / "knowdist" / "responses"))


def test_usage_that_stops_coming_does_not_make_a_budget_void(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = says({"choices": [{"message": {"content": "an answer of some words"}, "finish_reason": "stop"}]})
    server.faults, server.always = [None, None], silent
    with pytest.raises(BudgetError, match="max_cost"):
        asked_of(server, tmp_path, monkeypatch, engine={"tokenizer": None}, price_per_million_output_tokens=1e6 / 5,
                 budget=Budget(max_cost=10.0))
    assert len(server.seen) < 30


@pytest.mark.parametrize("said", [
    b"\x00\xff garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 60, b""],
    ids=["garbage", "length", "header", "chunk", "nothing"])
def test_what_is_no_http_is_a_fault_that_passes(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def answer() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(said)

        threading.Thread(target=answer, daemon=True).start()
        address = SimpleNamespace(url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        with pytest.raises(TransientError, match="is no HTTP" if said else "Server disconnected") as error:
            asked_once(address)
    assert error.value.reason == "server_error" and str(error.value).isprintable()


def test_an_answer_that_a_filter_of_the_server_ended_is_counted(opened: Any, server: Server) -> None:
    found: Output = opened(server).generate(asked("say filter"))[0]
    assert (found.error, found.n_prompt_tokens, found.n_output_tokens) == ("content_filter", 3, 5)
