"""What a request may be, and what a token."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import InputError
from distill.serving.auth import TOKEN, is_right, token_of
from distill.serving.limits import Limits
from distill.serving.schema import WrongRequestError, read_request

JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["inputs", "probabilities", "x"]), inner, max_size=3))
GOOD = "0123456789abcdef"


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_a_body_is_read_or_refused_with_a_paragraph(body):
    try:
        asked = read_request(body, Limits())
    except WrongRequestError as error:
        assert error.status in (400, 422) and str(error).endswith(".")
    else:
        assert json.loads(body)["inputs"] == asked.inputs


def test_a_token_is_compared_whole():
    assert is_right(f"Bearer {GOOD}", GOOD) and is_right(f"bearer  {GOOD} ", GOOD)
    for wrong in (None, "", GOOD, "Bearer", "Bearer é", f"Basic {GOOD}", f"Bearer {GOOD}0", f"Bearer {GOOD[:-1]}"):
        assert not is_right(wrong, GOOD)


def test_others_can_reach_a_server_only_with_a_token(tmp_path: Path, monkeypatch):
    monkeypatch.delenv(TOKEN, raising=False)
    assert token_of(None, "127.0.0.1") is token_of(None, "::1") is token_of(None, "localhost") is None
    for host in ("0.0.0.0", "::", "10.0.0.1", "myhost"):
        with pytest.raises(InputError, match="Put a token into a file"):
            token_of(None, host)
    (tmp_path / "token").write_text(f"{GOOD}\n")
    assert token_of(tmp_path / "token", "0.0.0.0") == GOOD
    monkeypatch.setenv(TOKEN, "")
    for name, content in (("empty", ""), ("short", "abc"), ("blank", f"{GOOD} {GOOD}"), ("large", "x" * 5000)):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError):
            token_of(tmp_path / name, "127.0.0.1")
    with pytest.raises(InputError, match=TOKEN):
        token_of(None, "127.0.0.1")


@pytest.mark.parametrize("limits", [{"max_batch": 0}, {"timeout": 0}, {"timeout": float("nan")}, {"max_body": -1},
                                    {"max_texts": 9, "max_queue": 8}])
def test_limits_that_make_no_sense_are_refused(limits):
    with pytest.raises(InputError):
        Limits(**limits).check()
