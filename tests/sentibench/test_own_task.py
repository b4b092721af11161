"""A task of a user's own is evaluated like any other, and a mistake in it is one clear paragraph."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.config.schema import IclDist
from distill.errors import InputError
from distill.prediction.question import question_of
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.icldist import icldist_candidates
from distill.run.records import Text
from flows.students import find_task
from sentibench.cli import main
from sentibench.compare import load
from sentibench.data import benchmark_texts, data_id, load_split
from sentibench.own_task import load_task_file
from sentibench.protocols import build_examples, load_task_data, texts_id
from sentibench.registry import all_tasks, select_tasks
from tests.support.flow import ROOT

HOTEL = ROOT / "examples/own-task/hotel.yaml"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    shutil.copytree(HOTEL.parent, tmp_path / "own")
    return tmp_path / "own" / "hotel.yaml"


def change(path: Path, **values: Any) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values, sort_keys=False))


def test_the_worked_example_gives_prompts_with_four_demonstrations_of_its_own() -> None:
    task = load_task_file(HOTEL)
    for protocol in ("released", "paper"):
        examples = build_examples(task, load_task_data(task, "nowhere", protocol), protocol, 42)
        assert len(examples) == 9
        assert examples[0].prompt.startswith("Please classify the hotel review.")
        assert examples[0].prompt.count("Sentence: ") == 5
        question = "Sentence: The view over the harbour made my mother cry, in a good way.\nLabel:"
        assert examples[0].prompt.endswith(question)


def test_the_worked_example_is_run_by_the_command(tiny_model: Path, tmp_path: Path, capsys: Any) -> None:
    lines = (ROOT / "docs/own-task.md").read_text().splitlines()
    command = next(line for line in lines if line.startswith("sentibench"))
    words = command.split()[1:]
    words[words.index("--model") + 1] = str(tiny_model)
    words[words.index("--task-file") + 1] = str(HOTEL)
    words[words.index("--out") + 1] = str(tmp_path / "out")
    assert main(words) == 0
    results = load(tmp_path / "out")
    assert set(results.scores) == {"hotel"} and results.cells["all"] is None
    assert "hotel" in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "hotel.seed42.json").read_text())
    assert result["n"] == 5 and result["confusion"]["labels"] == ["negative", "neutral", "positive"]


def test_a_task_has_a_wording_and_a_length_of_answers_of_its_own_at_both_ends(own: Path) -> None:
    assert load_task_file(own).max_tokens is None
    change(own, answer="labels", max_tokens=9, demonstration="<< {Text} >>: {Answer}\n", question="<< {Text} >>:")
    for name in ("hotel-demonstrations", "hotel-test"):
        file = own.parent / f"{name}.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps({"text": row["text"], "labels": [row["label"]]}) + "\n" for row in rows))
    task = load_task_file(own)
    assert task.max_tokens == 9
    (example, *_) = build_examples(task, load_task_data(task, "", "released"), "released", 1)
    *shown, question = example.prompt.split("\n\n")[1:]
    assert question == "<< The view over the harbour made my mother cry, in a good way. >>:" and len(shown) == 4
    config = IclDist.model_validate({"tasks": [str(own)], "weights": {"sentiment": 0, "emotion": 0}})
    pool = load_demonstrations(config)
    for candidate in icldist_candidates([Text(str(at), "A room", "a", "a") for at in range(9)], pool, config, 42):
        asked = candidate.render().prompt
        assert asked.endswith("\n\n<< A room >>:") and "Sentence" not in asked and "Output" not in asked
    prompts, name, pool = find_task(str(own), None, own.parent)
    used = question_of(prompts, name, pool, 4, chat=False).prompt("A room")
    assert used.endswith("']\n\n<< A room >>:") and used.count("<< ") == 5


def test_other_words_of_an_own_task_are_another_way_to_ask(own: Path) -> None:
    before = texts_id([load_task_file(own)])
    assert texts_id([load_task_file(own)]) == before
    change(own, instruction="Say what the guest thinks: {Labels}.")
    assert texts_id([load_task_file(own)]) != before


def test_own_tasks_come_last_and_their_test_examples_leave_the_corpus(own: Path) -> None:
    assert [task.name for task in select_tasks([str(own), "sst2"])] == ["sst2", "hotel"]
    assert [task.name for task in select_tasks(["all", str(own)])] == [*all_tasks(), "hotel"]
    assert len(list(benchmark_texts("", [str(own)]))) == 9
    before = data_id("", [str(own)])
    with (own.parent / "hotel-test.jsonl").open("a") as data:
        data.write('{"label": "neutral", "text": "One more."}\n')
    assert data_id("", [str(own)]) != before


@pytest.mark.parametrize(("values", "said"), [
    ({"name": "sst2"}, "is a task of SentiBench"), ({"name": "a b"}, "name"), ({"instructions": "x"}, "instructions"),
    ({"title": None}, "title"), ({"test": ""}, "Add the key 'test'"), ({"max_tokens": 3}, "one label is scored"),
    ({"question": "Label:"}, r"question needs \{Text\} once"),
    ({"demonstration": "{Sentence} {Label}"}, r"demonstration needs \{Answer\} and \{Text\} once"),
    ({"data": "hotel.jsonl"}, "the key 'data' is of an older form"), ({"labels": ["a", "b"]}, "label_sets: .standard"),
])
def test_a_wrong_task_file_names_the_key(own: Path, values: dict[str, Any], said: str) -> None:
    change(own, **values)
    with pytest.raises(InputError, match=said):
        select_tasks([str(own)])


@pytest.mark.parametrize("name", ["sentiment", "emotion"])
def test_a_task_without_demonstrations_of_its_own_is_not_evaluated(name: str, own: Path) -> None:
    shutil.copy(ROOT / f"prompts/tasks/{name}.yaml", own)
    change(own, test="hotel-test.jsonl")
    with pytest.raises(InputError, match="Add the key 'demonstrations'"):
        load_task_file(own)


@pytest.mark.parametrize(("line", "said"), [
    ("{", "line 10, is not JSON"), ("[1]", "line 10, is not an object"),
    ('{"text": "x", "label": "great"}', "line 10: 'great' is none of the labels"),
    ('{"label": "neutral"}', "line 10, is not an object with a non-empty 'text'"),
])
def test_a_wrong_line_is_named(own: Path, line: str, said: str) -> None:
    with (own.parent / "hotel-test.jsonl").open("a") as data:
        data.write(line + "\n")
    with pytest.raises(InputError, match=said):
        load_split(load_task_file(own), "", "test")


def test_missing_files_and_missing_examples_are_said(own: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no file .*none\.yaml"):
        load_task_file(tmp_path / "none.yaml")
    task = load_task_file(own)
    (own.parent / "hotel-test.jsonl").write_text("\n")
    with pytest.raises(InputError, match="holds no test example"):
        load_split(task, "", "test")
    (own.parent / "hotel-test.jsonl").unlink()
    with pytest.raises(InputError, match=r"hotel-test.jsonl.* names it under 'test'"):
        load_split(task, "", "test")
