"""Endpoints that misbehave: what passes is waited for, one bad prompt harms no other, the rest is said; no key is."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from distill.config.schema import OpenAIEngine as Config
from distill.engines import open_engine
from distill.engines.base import Engine, Output, Request, Sampling
from distill.engines.openai.engine import OpenAIEngine
from distill.errors import InputError, ProcessDiedError
from tests.support.endpoint import GARBAGE, HALF, KEY, PACE, Reply, Server, asked, config, words


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    found = [Server(), Server()]
    yield found
    for server in found:
        server.die()


@pytest.fixture
def server(servers: list[Server]) -> Server:
    return servers[0]


@pytest.fixture
def opened() -> Iterator[Callable[..., OpenAIEngine]]:
    """Open engines on servers, and close them at the end."""
    engines: list[Engine] = []

    def open_on(*servers: Server, **more: Any) -> OpenAIEngine:
        engine = OpenAIEngine(config(*servers, **more), backoff=PACE)
        engines.append(engine)
        return engine

    yield open_on
    for engine in engines:
        engine.close()


def test_answers_come_in_the_order_asked_and_end_with_their_first_line(servers: list[Server]) -> None:
    told: list[Output] = []
    with open_engine(config(*servers, concurrency=3), None) as engine:
        found = engine.generate(asked(*(f"say {n}" for n in range(40))), told.extend)
    assert [(one.id, one.text.strip(), one.finish_reason) for one in found] == [
        (str(n), str(n), "stop") for n in range(40)]
    assert sorted(told, key=lambda one: int(one.id)) == found


def test_every_endpoint_has_as_much_to_do_as_it_may(opened: Any, servers: list[Server]) -> None:
    engine = opened(*servers, concurrency=3)

    def release() -> None:
        limit = time.monotonic() + 10
        while min(server.at_once for server in servers) < 3 and time.monotonic() < limit:
            time.sleep(0.01)
        for server in servers:
            server.hangs = False

    for server in servers:
        server.hangs = True
    threading.Thread(target=release).start()
    engine.generate(asked(*(f"say {n}" for n in range(20))))
    assert [server.most_at_once for server in servers] == [3, 3]


def test_equal_prompts_and_equal_ids_stay_apart(opened: Any, server: Server) -> None:
    same = [Request("twin", "say one", Sampling(max_tokens=5, first_line=True))] * 3
    assert [(one.id, one.text.strip()) for one in opened(server).generate(same)] == [("twin", "one")] * 3


def test_a_stream_is_read_as_there_is_room_and_told_in_the_thread_that_asks(opened: Any, server: Server) -> None:
    taken, told, threads = 0, 0, set()

    def requests() -> Iterator[Request]:
        nonlocal taken
        for request in asked(*(f"say {n}" for n in range(200))):
            taken += 1
            assert taken - told <= 8
            yield request

    def done(outputs: list[Output]) -> None:
        nonlocal told
        told += len(outputs)
        threads.add(threading.get_ident())

    opened(server, concurrency=8).answer(requests(), done)
    assert told == taken == 200 and threads == {threading.get_ident()}


def test_an_endpoint_that_takes_its_time_leaves_signs_of_life(opened: Any, server: Server) -> None:
    told: list[list[Output]] = []
    engine = opened(server, outage_timeout=60.0)
    server.hangs = True
    threading.Timer(1.5, lambda: setattr(server, "hangs", False)).start()
    engine.answer(asked("say one"), told.append)
    assert [] in told and [words(some) for some in told if some] == [["one"]]


@pytest.mark.parametrize("fault", [
    (500, b"{}", {}), (503, b"busy", {}), (404, b"{}", {}), (429, b"{}", {}), (429, b"{}", {"Retry-After": "0.1"}),
    (200, HALF, {}), *((200, body, {}) for body in GARBAGE)], ids=lambda fault: f"{fault[0]} {fault[1][:20]!r}")
def test_a_fault_that_passes_is_waited_for(opened: Any, server: Server, fault: Reply) -> None:
    engine = opened(server, concurrency=2)
    engine.generate(asked("say zero"))
    server.faults = [fault] * 2
    assert words(engine.generate(asked("say one", "say two"))) == ["one", "two"]
    assert sum("say" in str(body.get("prompt")) for body in server.seen) == 5


def test_retry_after_is_waited_for(opened: Any, server: Server) -> None:
    engine = opened(server)
    server.faults = [(429, b"{}", {"Retry-After": "1"})]
    began = time.monotonic()
    assert words(engine.generate(asked("say one"))) == ["one"]
    assert time.monotonic() - began >= 1.0


def test_one_bad_prompt_harms_no_other(opened: Any, server: Server) -> None:
    bad = ["this is too long", "half a \ud800 character", "", "poison", "forbidden", "the filter says no"]
    found = opened(server, concurrency=3).generate(asked("say one", *bad, "say two"))
    assert words(found) == ["one", "prompt_too_long", "not_encodable", "empty_prompt", "server_error", "refused",
                            "content_filter", "two"]
    assert {(one.text, one.finish_reason) for one in found[1:-1]} == {("", "error")}


def test_a_prompt_that_only_times_out_is_an_error_of_its_own(opened: Any, server: Server) -> None:
    found = opened(server, timeout=0.3, concurrency=1).generate(asked("say one", "take your time", "say two"))
    assert words(found) == ["one", "timeout", "two"]


def test_settings_that_no_endpoint_takes_leave_no_records(opened: Any, server: Server) -> None:
    told: list[Output] = []
    server.always = (400, b'{"error": "unknown parameter"}', {})
    with pytest.raises(InputError, match=r"answered none of 2\d prompts, .* harmless one: status 400, unknown param"):
        opened(server, concurrency=4).answer(asked(*(f"say {n}" for n in range(100))), told.extend)
    assert told == [] and len(server.seen) < 30
    with pytest.raises(InputError, match="answered none of 2 prompts"):
        opened(server).generate(asked("say one", "say two"))


@pytest.mark.parametrize("count", [1, 70])
def test_prompts_that_are_all_refused_for_what_they_say_are_told(opened: Any, server: Server, count: int) -> None:
    told: list[Output] = []
    opened(server, concurrency=4).answer(asked(*["forbidden"] * count), told.extend)
    assert words(told) == ["refused"] * count and len(server.seen) <= count + 4


def test_when_an_endpoint_dies_the_other_takes_over(
    opened: Any, servers: list[Server], caplog: pytest.LogCaptureFixture
) -> None:
    engine, found = opened(*servers, concurrency=4), list[Output]()

    def done(outputs: list[Output]) -> None:
        found.extend(outputs)
        if len(found) > 50 and not servers[0].dead:
            servers[0].die()

    engine.answer(asked(*(f"say {n}" for n in range(300))), done)
    assert sorted(words(found), key=int) == [str(n) for n in range(300)]
    assert f"{servers[0].url} is put aside" in caplog.text and f"{servers[1].url} is put aside" not in caplog.text


def test_an_endpoint_that_hangs_is_given_up_and_comes_back(
    opened: Any, servers: list[Server], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.engines.openai.client.CHECK_SECONDS", 0.2)
    engine = opened(*servers, concurrency=2)
    servers[0].hangs = True
    assert words(engine.generate(asked(*(f"say {n}" for n in range(20))))) == [str(n) for n in range(20)]
    servers[0].hangs = False
    limit = time.monotonic() + 10
    while "is back" not in caplog.text and time.monotonic() < limit:
        time.sleep(0.02)
    assert [record.getMessage().split(servers[0].url)[1].split(" (")[0].split(" after")[0] for record in caplog.records
            ] == [" is put aside until it is well", " is back"]
    before = len(servers[0].seen)
    engine.generate(asked("say one", "say two", "say three"))
    assert len(servers[0].seen) > before


def test_an_endpoint_that_answers_for_its_health_only_is_put_aside(
    opened: Any, servers: list[Server], caplog: pytest.LogCaptureFixture
) -> None:
    engine = opened(*servers, concurrency=2)
    servers[0].always = (500, b"the engine is dead", {})
    assert words(engine.generate(asked(*(f"say {n}" for n in range(40))))) == [str(n) for n in range(40)]
    assert "the engine is dead" in caplog.text and len(servers[0].seen) < 30


@pytest.mark.parametrize("status", [429, 503, None])
def test_work_ends_when_no_endpoint_is_there_for_too_long_and_what_was_answered_was_told(
    opened: Any, server: Server, status: int | None
) -> None:
    engine, told = opened(server, concurrency=1, outage_timeout=0.3), list[Output]()
    first = engine.generate(asked("say one"), told.extend)
    if status is None:
        server.die()
    else:
        server.always = (status, b'{"error": "Connection to the quota refused"}', {})
    with pytest.raises(ProcessDiedError, match=r"No endpoint could be asked .*refused.*What was answered is kept"):
        engine.generate(asked("say two"), told.extend)
    assert told == first


def test_an_endpoint_that_is_down_at_the_start_is_waited_for_and_said(
    opened: Any, servers: list[Server], caplog: pytest.LogCaptureFixture
) -> None:
    servers[0].die()
    engine = opened(*servers)
    assert servers[0].url in caplog.text and "put aside" in caplog.text
    assert words(engine.generate(asked("say one"))) == ["one"]
    servers[1].ill = True
    caplog.clear()
    with pytest.raises(ProcessDiedError, match=rf"No endpoint answers \({servers[0].url}.*status 503"):
        opened(*servers)
    assert "Waiting up to" in caplog.text
    late = threading.Timer(0.1, lambda: setattr(servers[1], "ill", False))
    late.start()
    assert words(opened(servers[1]).generate(asked("say one"))) == ["one"]


def test_every_endpoint_must_serve_the_model(opened: Any, server: Server) -> None:
    other = Server("big", "small")
    try:
        with pytest.raises(InputError, match=rf"Not every endpoint .*{other.url}: it serves big, small, not tiny"):
            opened(server, other)
    finally:
        other.die()


@pytest.mark.parametrize(("status", "said"), [
    (401, "SENTIDISTILL_ENDPOINT_KEY"), (403, "SENTIDISTILL_ENDPOINT_KEY"), (402, "base_urls"), (302, "base_urls")])
def test_what_no_waiting_mends_ends_the_work_at_once(opened: Any, server: Server, status: int, said: str) -> None:
    engine = opened(server)
    server.always = (status, b'{"error": "no"}', {"Location": "http://127.0.0.1:9/"} if status == 302 else {})
    with pytest.raises(InputError, match=said):
        engine.generate(asked("say one"))


def test_a_wrong_path_is_said_at_once(opened: Any, server: Server) -> None:
    engine = opened(server)
    server.always = (404, b"{}", {})
    with pytest.raises(InputError, match="up to and with /v1"):
        engine.generate(asked("say one"))


def test_a_key_is_sent_and_never_said(
    opened: Any, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SENTIDISTILL_ENDPOINT_KEY", f" {KEY}\n")
    engine = opened(server)
    found = engine.generate(asked("say one", "forbidden", f"say {KEY}"))
    assert server.seen[-1]["authorization"] == f"Bearer {KEY}"
    assert words(found) == ["one", "refused", "***"]
    server.always = (401, f'{{"error": "{KEY} is wrong"}}'.encode(), {})
    with pytest.raises(InputError) as error:
        engine.generate(asked("say one"))
    assert "SENTIDISTILL_ENDPOINT_KEY" in str(error.value) and "*** is wrong" in str(error.value)
    assert KEY not in f"{error.value!r}{caplog.text}{found!r}"


@pytest.mark.parametrize("key", ["two words", "a\nline", "smart–dash"])
def test_a_key_that_cannot_be_sent_is_not_said(server: Server, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(InputError, match="MY_KEY") as error:
        OpenAIEngine(config(server, api_key_variable="MY_KEY"))
    assert key not in str(error.value)


@pytest.mark.parametrize(("settings", "said"), [
    ({"base_urls": ["http://me:secret@host/v1"]}, "no password"), ({"base_urls": ["http://host/v1?key=secret"]}, "no "),
    ({"base_urls": ["host:8000/v1"]}, "addresses like"), ({"base_urls": ["http://host:port/v1"]}, "addresses like"),
    ({"base_urls": []}, "at least 1"), ({"base_urls": ["http://a/v1"] * 2}, "twice"),
    ({"api_key_variable": "sk-secret"}, "name of an environment variable")])
def test_settings_that_cannot_be_are_said_without_secrets(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as error:
        Config(**{"base_urls": "http://host/v1", "model": "tiny", **settings})
    assert "secret" not in "".join(item["msg"] + str(item["loc"]) for item in error.value.errors())


def test_chat_goes_as_a_message_where_there_is_no_tokenizer(opened: Any, server: Server) -> None:
    found = opened(server).generate([Request("a", "say one", Sampling(max_tokens=5, first_line=True), chat=True)])
    assert words(found) == ["one"] and server.seen[-1]["messages"] == [{"role": "user", "content": "say one"}]


def test_what_the_protocol_does_not_have_is_an_input_error(opened: Any, server: Server) -> None:
    engine = opened(server)
    with pytest.raises(InputError, match="classify to generate"):
        engine.score_labels(asked("a"), [[" x"]])
    with pytest.raises(InputError, match="'tokenizer'"):
        engine.count_tokens(["a"])
    with pytest.raises(InputError, match=r"served by test.*structured"):
        engine.generate([Request("a", "say one", choices=("one", "two"))])
