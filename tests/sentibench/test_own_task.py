"""A task of a user's own is evaluated like any other, and a mistake in it is one clear paragraph."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.errors import InputError
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
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))


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


def test_a_task_of_tuples(own: Path) -> None:
    change(own, labels=[], fields=["aspect", "polarity"])
    rows = [{"split": split, "sentence": f"The bed was soft, {n}.", "tuples": [["bed ", "positive"]]}
            for n in range(5) for split in ("train", "test")]
    (own.parent / "hotel.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = load_task_file(own)
    assert (task.metric, task.answer, task.max_tokens) == ("micro_f1", "tuples", 150)
    assert load_split(task, "", "test")[0].gold == (("bed", "positive"),)
    (example, *_) = build_examples(task, load_task_data(task, "", "released"), "released", 1)
    assert "Label: [('bed', 'positive')]\n" in example.prompt


def test_other_words_of_an_own_task_are_another_way_to_ask(own: Path) -> None:
    before = texts_id([load_task_file(own)])
    assert texts_id([load_task_file(own)]) == before
    change(own, instruction="Say what the guest thinks.")
    assert texts_id([load_task_file(own)]) != before


def test_own_tasks_come_last_and_their_texts_leave_the_corpus(own: Path) -> None:
    assert [task.name for task in select_tasks([str(own), "sst2"])] == ["sst2", "hotel"]
    assert [task.name for task in select_tasks(["all", str(own)])] == [*all_tasks(), "hotel"]
    assert len(list(benchmark_texts("", [str(own)]))) == 17
    before = data_id("", [str(own)])
    with (own.parent / "hotel.jsonl").open("a") as data:
        data.write('{"split": "test", "label": "neutral", "sentence": "One more."}\n')
    assert data_id("", [str(own)]) != before


@pytest.mark.parametrize(("values", "said"), [
    ({"labels": []}, "either labels"), ({"fields": ["a"]}, "either labels"), ({"labels": ["one"]}, "at least two"),
    ({"name": "sst2"}, "is a task of SentiBench"), ({"name": "a b"}, "name"), ({"instructions": "x"}, "instructions"),
    ({"title": None}, "title"),
])
def test_a_wrong_task_file_names_the_key(own: Path, values: dict[str, Any], said: str) -> None:
    change(own, **values)
    with pytest.raises(InputError, match=said):
        select_tasks([str(own)])


@pytest.mark.parametrize(("line", "said"), [
    ("{", "line 18, is not JSON"), ("[1]", "line 18, is not a JSON object"),
    ('{"sentence": "x", "label": "neutral"}', "'split' is None"),
    ('{"sentence": "x", "label": "great", "split": "test"}', "label 'great' is not one of"),
    ('{"label": "neutral", "split": "test"}', "'sentence' is missing"),
])
def test_a_wrong_line_is_named(own: Path, line: str, said: str) -> None:
    with (own.parent / "hotel.jsonl").open("a") as data:
        data.write(line + "\n")
    with pytest.raises(InputError, match=said):
        load_split(load_task_file(own), "", "test")


def test_missing_files_and_missing_splits_are_said(own: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_task_file(tmp_path / "none.yaml")
    task = load_task_file(own)
    (own.parent / "hotel.jsonl").write_text('{"split": "train", "label": "neutral", "sentence": "x"}\n')
    with pytest.raises(InputError, match="no example of the split 'test'"):
        load_split(task, "", "test")
    (own.parent / "hotel.jsonl").unlink()
    with pytest.raises(InputError, match=r"hotel.jsonl, cannot be read"):
        load_split(task, "", "test")
