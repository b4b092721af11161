"""Own tasks of tuples, and of several labels, are evaluated in the words and the form in which they are distilled."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from distill.config.schema import IclDist
from distill.errors import InputError
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.icldist import icldist_candidates
from distill.run.records import Text
from flows.cli.task_examples import files_of
from sentibench.answering import Method, read
from sentibench.cli import main
from sentibench.protocols import build_examples, load_task_data
from sentibench.registry import all_tasks, select_tasks
from sentibench.scoring import score_answers, summary


def write(folder: Path, answer: str) -> Path:
    for name, text in files_of("own", answer).items():
        (folder / name).write_text(text)
    return folder / "own.yaml"


def asked(path: Path) -> tuple[Any, Any]:
    (task,) = select_tasks([str(path)])
    return task, build_examples(task, load_task_data(task, "nowhere", "released"), "released", 42)


@pytest.mark.parametrize("answer", ["labels", "tuples"])
def test_questions_are_worded_as_in_training_and_gold_reads_as_right(answer: str, tmp_path: Path) -> None:
    path = write(tmp_path, answer)
    config = IclDist.model_validate({"tasks": [str(path)], "weights": {"sentiment": 0, "emotion": 0}})
    trained = next(one for one in icldist_candidates([Text(str(at), "A text", "a", "a") for at in range(9)],
                                                     load_demonstrations(config), config, 42)
                   if one.strategy == "basic")
    task, examples = asked(path)
    assert task.metric == "micro_f1"
    for example in examples:
        assert example.prompt.startswith(trained.head) and example.prompt.endswith("\nOutput:")
        shown = example.prompt.split("\n\n")[1:-1]
        assert len(shown) == 4 and {block + "\n\n" for block in shown} <= set(trained.demonstrations)
        _, pattern = Method(structured=True).structure(task)
        assert re.fullmatch(pattern, f" {example.item.label_text}")
    items = [example.item for example in examples]
    right = [read(task, {"raw": f" {item.label_text}"}, item.sentence) for item in items]
    found = summary(task, items, right, 0)
    assert found["value"] == 1 and found["accuracy" if answer == "labels" else "n_invalid"] == (answer == "labels")


def test_wrong_values_and_spans_count_as_predicted_and_other_lengths_as_unread(tmp_path: Path) -> None:
    task, examples = asked(write(tmp_path, "tuples"))
    item = examples[0].item  # Good food, thin walls.
    answer = read(task, {"raw": '[["Food", "food", "good", "Positive"], ["sauna", "food", "thin", "negative"], ["x"]]'},
                  item.sentence)
    assert answer.tuples == (("food", "food", "Good", "positive"), ("sauna", "food", "thin", "negative"))
    assert answer.n_unread == 1 and score_answers(task, [item], [answer]).score == 0.5
    assert not read(task, {"raw": '[["x"]]'}, item.sentence).valid
    assert read(task, {"raw": "[]"}, item.sentence).value == ()


def test_several_labels_are_scored_as_sets(tmp_path: Path) -> None:
    task, examples = asked(write(tmp_path, "labels"))
    items = [example.item for example in examples]
    answers = [read(task, {"raw": raw}, "") for raw in ("['staff', 'room']", "['price', 'room']", "[]", "none of them")]
    found = summary(task, items, answers, 0)  # gold: staff; price, room; none; room
    precision, recall = 3 / 4, 3 / 4
    assert found["value"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert found["accuracy"] == 0.5 and found["n_invalid"] == 1


def test_the_tasks_of_the_benchmark_read_as_before() -> None:
    assert all("tuple_schema" not in task.model_dump() for task in all_tasks().values())


def test_a_mistake_in_the_test_examples_names_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, "tuples")
    (tmp_path / "own-test.jsonl").write_text(json.dumps({"text": "A bed", "tuples": [["bed", "rom", "A", "neutral"]]}))
    with pytest.raises(InputError, match=r"own-test.jsonl, line 1, tuple 1: 'rom' is no category .*nearest is 'room'"):
        asked(path)


@pytest.mark.parametrize("answer", ["labels", "tuples"])
def test_the_command_evaluates_it(answer: str, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path, answer)
    assert main(["run", "--model", str(tiny_model), "--task-file", str(path), "--limit", "2",
                 "--out", str(tmp_path / "out")]) == 0
    result = json.loads((tmp_path / "out" / "own.seed42.json").read_text())
    assert result["metric"] == "micro_f1" and result["n"] == 2 and 0 <= result["value"] <= 1
