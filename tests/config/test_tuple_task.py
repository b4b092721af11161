"""A task of tuples of a user's own: what its file may say, what the teacher is asked, what is learned."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from distill.config.schema import Filters, IclDist
from distill.config.task_file import load_task
from distill.config.task_schema import TaskFile
from distill.config.tuple_schema import NULL, TupleSchema
from distill.dataset.agreement import Votes
from distill.dataset.answers import verdict
from distill.dataset.filters import completion_of, filters_of, read_answer
from distill.errors import InputError
from distill.generation.validity import unusable_reason
from distill.parsing.tuple_answer import read_tuple_answer
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.icldist import icldist_candidates
from distill.prompting.tuples import tuples_text
from distill.run.records import Prompt, Response, Text
from flows.cli.main import main

TEXT = "The Room was\ntiny, but the café is lovely."
TASK: dict[str, Any] = {
    "name": "rooms", "answer": "tuples", "instruction": ["Дай {Fields}.", "List {Fields}."],
    "fields": ["предмет", "topic", "polarity"], "values": {"polarity": ["good", "bad"]}, "spans": ["предмет"],
    "demonstrations": "shown.jsonl"}
SCHEMA = TupleSchema(fields=TASK["fields"], values=TASK["values"], spans=TASK["spans"])
SHOWN = [{"text": "Тепла кімната", "tuples": [["кімната", "room", "good"]]},
         {"text": "Nothing.", "tuples": []},
         {"text": "Bad lift", "tuples": [{"polarity": "bad", "topic": "house", "предмет": "lift"}]}]


def write(folder: Path, rows: list[Any] | None = None, **changes: Any) -> Path:
    """Write a whole task into a folder and return its YAML file."""
    values = {key: value for key, value in {**TASK, **changes}.items() if value is not None}
    (folder / "rooms.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    (folder / "shown.jsonl").write_text("\n".join(json.dumps(row) for row in SHOWN if rows is None) + "\n".join(
        json.dumps(row) for row in rows or []), encoding="utf-8")
    return folder / "rooms.yaml"


def asked(path: Path, texts: int = 40) -> list[Prompt]:
    config = IclDist.model_validate({"tasks": [str(path)], "weights": {"sentiment": 0, "emotion": 0},
                                     "max_demonstrations": 3})
    rows = [Text(str(at), f"{TEXT} {at}", "any", "any") for at in range(texts)]
    return [one.render() for one in icldist_candidates(rows, load_demonstrations(config), config, 42)]


def test_every_wording_names_the_fields_and_shows_lists_of_lists_that_read_back(tmp_path: Path) -> None:
    found = asked(write(tmp_path))
    assert {one.kind for one in found} == {"rooms/basic", "rooms/basic2", "rooms/mi"}
    for one in found:
        assert ("[предмет, topic, polarity: 'good' | 'bad']" in one.prompt) == (one.strategy != "mi")
        assert one.text.startswith(TEXT) and not one.labels and TupleSchema.model_validate_json(
            one.tuple_schema) == SCHEMA
        blocks = one.prompt.split("\n\n")[1:-1]
        assert len(blocks) == one.n_demonstrations or not one.n_demonstrations
        for block in blocks:
            text, _, answer = block.removeprefix("Sentence: ").partition("\nOutput: ")
            read = read_tuple_answer(answer, SCHEMA, text)
            assert not read.problem and tuples_text(read.tuples) == answer


def test_the_tasks_that_ship_know_no_tuples_and_read_as_before() -> None:
    assert "tuple_schema" not in json.dumps(IclDist().prompts().model_dump())


@pytest.mark.parametrize(("changes", "said"), [
    ({"fields": ["a", "b", "a"]}, "the field 'a' is there twice"), ({"fields": ["a", "A "]}, "blanks around it"),
    ({"fields": ["Aspect", "as pect"]}, "differ in case and blanks alone"), ({"fields": []}, "has fields"),
    ({"values": {"polarty": ["a", "b"]}}, "values names 'polarty', .* the nearest is 'polarity'"),
    ({"spans": ["topics"]}, "the nearest is 'topic'"), ({"spans": ["polarity"]}, "it is one of both"),
    ({"values": {"polarity": ["good"]}}, "two at least"), ({"values": {"polarity": [True, 1]}}, "into quotes"),
    ({"values": {"polarity": ["good", "Good"]}}, "'good' and"),
    ({"instruction": "Which of {Labels}?"}, r"needs \{Fields\} once"), ({"feilds": 1}, "the nearest is 'fields'"),
    ({"label_sets": {"one": ["a", "b"]}}, "no label_sets"), ({"answer": "label"}, r"needs \{Labels\} once"),
    ({"values": {"polarity": ["good", "bad", "so-so"]}}, "No demonstration .* shows the polarity 'so-so'")])
def test_a_mistake_in_the_description_names_its_key(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        load_task(write(tmp_path, **changes))


@pytest.mark.parametrize(("tuples", "said"), [
    ([["room", "x"]], "line 2, tuple 1, has 2 values, but a tuple of this task has 3"),
    ([["room", "x", "goood"]], "'goood' is no polarity of the task .*the nearest is 'good'"),
    ([{"предмет": "room", "topik": "x", "polarity": "bad"}], "no field 'topik'; the nearest is 'topic'"),
    ([{"topic": "x", "polarity": "bad"}], "lacks the field 'предмет'"), ([["lift", "x", "bad"]], "does not stand in"),
    ([["room", " ", "bad"]], "its topic is empty"), ([["room", 3, "bad"]], "should be a list of texts"),
    ([["room", "x", "bad"]] * 2, "tuple 2, is the same as tuple 1"),
    ([["\ud800", "x", "bad"]], "line 2, is not JSON"), ("room", "its 'tuples' is 'room'"), (None, "None")])
def test_a_mistake_in_a_demonstration_names_line_tuple_and_nearest_name(
        tuples: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        load_task(write(tmp_path, [SHOWN[0], {"text": "A room", "tuples": tuples}]))


@pytest.mark.parametrize(("output", "learned", "reason"), [
    ('[["room", "size", "Bad"], ["café", "food", "good"]]',
     '[["Room", "size", "bad"], ["café", "food", "good"]]', ""),
    ("<think>[['x']]</think>Here: [('Room', 'size', 'bad'), ('room', 'size', 'bad')] Sure?",
     '[["Room", "size", "bad"]]', ""),
    ("```json\n[\n  [null, \"size\", \"good\"]\n]\n```", '[["NULL", "size", "good"]]', ""),
    ('[]\n\nSentence: No.\nOutput: [["lift", "x", "bad"]]', "[]", ""), ("[['room was', 'size', 'bad']]",
                                                                      '[["Room was", "size", "bad"]]', ""),
    ("The room is bad.", "", "unreadable_tuples"), ('[["Room", "size"]]', "", "wrong_number_of_fields"),
    ('[["Room", "size", "awful"]]', "", "off_list"), ('[["lift", "size", "bad"]]', "", "span_not_in_text"),
    ('["Room", "size", "bad"]', "", "unreadable_tuples"), ('[["Room", "size", "bad"], ["Roo', "", "unreadable_tuples")])
def test_what_is_learned_is_of_one_form_and_what_is_not_has_its_reason(
        output: str, learned: str, reason: str) -> None:
    prompt = Prompt("1", "t", "icldist", "rooms/basic", "?", tuple_schema=SCHEMA.model_dump_json(), text=TEXT)
    response = Response("1", output, "stop", 1, 1)
    assert verdict(filters_of(Filters()), prompt, response)[0] == reason
    assert read_answer(prompt, response) == (learned or None)
    assert completion_of(prompt, response) == (learned or output)
    assert unusable_reason(prompt, response) == ("" if reason == "span_not_in_text" else reason)
    cut = verdict(filters_of(Filters()), prompt, replace(response, finish_reason="length"))[0]
    assert cut == ("truncated" if reason == "unreadable_tuples" else reason)
    assert not verdict(filters_of(Filters.model_validate({"off_list": False})), prompt, response)[0]


PART = st.one_of(st.text(), st.sampled_from(["NULL", "it's", '"', "\\", "\b\f", "Sentence:", "[", "\n"]))


@given(st.lists(st.tuples(PART, PART, st.sampled_from(["good", "bad"]))), st.text())
def test_any_tuples_in_the_form_of_demonstrations_read_back(tuples: list[tuple[str, ...]], after: str) -> None:
    schema = SCHEMA.model_copy(update={"spans": []})
    read = read_tuple_answer(tuples_text(tuples) + after.replace("</", ""), schema, TEXT)
    expected = [tuple(" ".join(part.split()) or NULL for part in one) for one in tuples]
    assert not read.problem and read.tuples == tuple(dict.fromkeys(expected))


@given(st.text())
def test_any_answer_is_read_or_has_a_problem(output: str) -> None:
    read = read_tuple_answer(output, SCHEMA, TEXT)
    assert read.tuples or read.problem or "[" in output


def test_tuples_agree_as_sets() -> None:
    prompt = Prompt("1", "t", "icldist", "rooms/basic", "?", tuple_schema=SCHEMA.model_dump_json(), text=TEXT)
    votes = Votes(Filters().agreement, IclDist().prompts())
    one, other = [("Room", "size", "bad"), ("café", "food", "good")], [("Room", "size", "good")]
    for at, answer in enumerate((one, one[::-1], other, None)):
        votes.add(replace(prompt, id=str(at)), None if answer is None else tuples_text(answer))
    assert set(votes.objections()) == {"0", "1", "2"}  # 2 of 4 are not more than half
    votes.add(replace(prompt, id="5"), tuples_text(one))
    assert set(votes.objections()) == {"2"}


@pytest.mark.parametrize("answer", ["labels", "tuples"])
def test_a_new_task_is_whole(answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    main(["task", "new", "hotel", "--answer", answer])
    main(["task", "check", "hotel.yaml"])
    assert "texts without a tuple" in capsys.readouterr().out or answer == "labels"
    config = IclDist.model_validate({"tasks": ["hotel.yaml"]})
    assert [one.task for one in load_demonstrations(config)].count("hotel") == 5


def test_a_task_file_says_each_thing_once() -> None:
    assert TaskFile.model_validate(TASK).tuple_schema == SCHEMA
