"""A journal may be torn, damaged, poisoned or somebody else's: what is an answer stays, and generation ends."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import ProcessDiedError
from distill.generation.journal import JOURNAL, Journal, journal_inputs, journalled
from distill.generation.manifests import read_markers, read_responses
from distill.generation.status import status
from distill.run.records import Response
from tests.support.generation import FakeEngine, dying, made, prompts_of, slice_of

GOOD = {"prompt_id": "a", "output": "x", "finish_reason": "stop", "n_prompt_tokens": 1, "n_output_tokens": 1,
        "failure": ""}
POISON = [
    {"n_output_tokens": 2**63}, {"n_prompt_tokens": 10**30}, {"n_prompt_tokens": -1}, {"n_output_tokens": True},
    {"n_output_tokens": 1.5}, {"n_output_tokens": None}, {"output": None}, {"output": "\ud800"}, {"prompt_id": ["a"]},
    {"finish_reason": {}}, {"finish_reason": "odd"}, {"failure": 7}, {"more": 1}]


def anything() -> st.SearchStrategy[Any]:
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["a", "b"])
    near = st.fixed_dictionaries({key: st.just(value) | plain for key, value in GOOD.items()})
    portion = st.fixed_dictionaries({"responses": plain | st.lists(near | plain), "seconds": plain, "cached": plain})
    return portion | plain | st.lists(plain) | st.dictionaries(st.text(), plain)


@given(st.lists(anything() | st.binary()), st.booleans())
def test_whatever_a_journal_holds_only_answers_to_the_shards_prompts_are_taken_from_it(
    tmp_path_factory: pytest.TempPathFactory, lines: list[Any], first_is_whole: bool
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    Journal(folder, "s", {"made": "so"}).close()
    path = folder / f"s{JOURNAL}"
    written = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    header = path.read_bytes() if first_is_whole else b""
    path.write_bytes(header + b"".join(line + b"\n" for line in written))
    assert journalled(folder) >= 0 and isinstance(journal_inputs(folder, "s"), dict | None)
    journal = Journal(folder, "s", {"made": "so"}, {"a", "b"})
    assert journal.responses.keys() <= {"a", "b"} and 0 <= journal.seconds < 1e15 and journal.n_cached_tokens >= 0
    for item in journal.responses.values():
        assert type(item.output) is str and 0 <= item.n_prompt_tokens < 2**63 and 0 <= item.n_output_tokens < 2**63
    journal.add(slice_of("c"), 1.0)
    journal.close()
    again = Journal(folder, "s", {"made": "so"})  # and it was left whole
    assert again.responses == {**journal.responses}
    again.close()


@pytest.mark.parametrize("poison", POISON, ids=str)
def test_a_poisoned_answer_is_left_out_and_the_others_stay(
    tmp_path: Path, poison: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path, "s", {})
    journal.add(slice_of("b"), 1.0)
    journal.close()
    with journal.path.open("ab") as stream:
        bad = json.dumps({"responses": [{**GOOD, **poison}, {**GOOD, "prompt_id": "c"}], "seconds": 1, "cached": 0})
        stream.write(bad.encode() + b"\nnot json\n")
    journal = Journal(tmp_path, "s", {})
    assert list(journal.responses) == ["b", "c"] and journal.seconds == 2.0
    assert "2 could be read; 2 were damaged" in caplog.text
    journal.close()


def begun(run: Path, fake: FakeEngine) -> Path:
    """Return a journal that a run was left with which died, with answers in it."""
    dying(fake, run)
    return next(path for path in sorted((run / "knowdist" / "responses").glob(f"*{JOURNAL}"))
                if len(path.read_bytes().splitlines()) > 1)


@pytest.mark.parametrize("on_change", ["stop", "keep", "discard"])
@pytest.mark.parametrize("poison", [
    [{**GOOD, "prompt_id": f"unknown{n}"} for n in range(30)], [{**GOOD, "n_output_tokens": 2**63}], [7], None, "text"],
    ids=["unknown", "counts", "numbers", "null", "text"])
def test_a_stage_with_a_poisoned_journal_ends_with_an_answer_to_each_prompt(
    tmp_path: Path, fake: FakeEngine, poison: Any, on_change: Any
) -> None:
    path = begun(tmp_path, fake)
    with path.open("ab") as stream:
        stream.write(json.dumps({"responses": poison, "seconds": 1.0, "cached": 0}).encode() + b"\n")
    made(tmp_path, on_change=on_change)
    answers = list(read_responses(tmp_path / "knowdist" / "responses"))
    assert sorted(item.prompt_id for item in answers) == sorted(prompt.id for prompt in prompts_of(40))
    asked = [request.id for request in fake.asked]
    assert len(asked) == len(set(asked)) or on_change == "discard"  # what the journal held of answers is not lost
    assert sum(marker.n_in for marker in read_markers(tmp_path / "knowdist" / "responses").values()) == 40
    assert status(tmp_path)["knowdist"]["in_progress"] == 0


def test_discard_leaves_a_damaged_journal_behind(tmp_path: Path, fake: FakeEngine) -> None:
    path = begun(tmp_path, fake)
    with path.open("ab") as stream:
        stream.write(b"[damage\n")
    fake.die_after = len(fake.asked)
    with pytest.raises(ProcessDiedError):
        made(tmp_path, on_change="discard")
    assert not path.exists() or b"responses" not in path.read_bytes()


def test_an_answer_says_whether_its_counts_are_estimated_also_after_a_crash(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "s", {})
    journal.add([Response("a", "x", "stop", 1, 1, counts_estimated=True)])
    journal.close()
    again = Journal(tmp_path, "s", {})
    assert again.responses["a"].counts_estimated
    again.close()
