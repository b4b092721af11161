"""The webhook: told what happened; one that is away harms nothing, and its address is never said."""

import logging
from typing import Any

import pytest

from flows.orchestration.notify import VARIABLE, payload, post


def test_it_is_told_in_words_and_in_fields(
        told: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    address, heard = told
    monkeypatch.setenv(VARIABLE, address)
    with caplog.at_level(logging.INFO):
        assert post(payload("distill", "mine", "Failed", "No texts.", "http://127.0.0.1/runs/1"))
    assert address not in caplog.text
    assert heard[-1] == {
        "text": "sentidistill: distill of mine failed. No texts. http://127.0.0.1/runs/1", "flow": "distill",
        "run": "mine", "state": "Failed", "message": "No texts.", "url": "http://127.0.0.1/runs/1"}
    assert post(payload("distill", "caf\udce9", "Completed", "")) and heard[-1]["run"] == "caf\udce9"


@pytest.mark.parametrize("address", [
    "http://127.0.0.1:9/token-in-address", "no address token-in-address", "http://127.0.0.1:9/a b/token-in-address"])
def test_one_that_is_away_is_said_without_its_address(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(VARIABLE, address)
    with caplog.at_level(logging.WARNING, "sentidistill"):
        assert not post(payload("distill", "mine", "Completed", ""), wait=0)
    assert VARIABLE in caplog.text and "token-in-address" not in caplog.text


def test_without_an_address_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert not post(payload("distill", "mine", "Completed", ""))
