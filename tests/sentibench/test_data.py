"""The released data, the tasks that read them, and what is said of data that cannot be used."""

import json
import re
from pathlib import Path

import pytest
import yaml

from distill.errors import InputError
from sentibench.data import benchmark_texts, data_id, load_split
from sentibench.gold import acsa, asqp, atsa, ssa
from sentibench.registry import ORDER, all_tasks, get_task, select_tasks
from sentibench.scoring import read_answer, score_answers
from sentibench.task import Task

POLARITIES = ("negative", "neutral", "positive")


def write(root: Path, task: str, rows: object, split: str = "test") -> Path:
    path = root / get_task(task).folder / f"{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows), encoding="utf-8-sig")
    return path


def test_the_twelve_tasks_are_those_of_table_1() -> None:
    tasks = all_tasks()
    assert tuple(tasks) == ORDER
    table = yaml.safe_load((Path(__file__).parents[2] / "sentibench/paper/table1.yaml").read_text())["rows"]
    for row in table:
        task = tasks[row["task"]]
        assert (task.title, task.dataset, task.category, task.metric) == (
            row["title"], row["dataset"], row["category"], row["metric"])
        assert (task.table1.train, task.table1.dev, task.table1.test) == (row["train"], row["dev"], row["test"])
    assert {name for name, task in tasks.items() if task.seen} == {"imdb", "yelp2", "sst2", "twitter17", "emotion20"}


def test_tables_1_and_2_stand_in_the_paper(shared_dir: Path) -> None:
    printed = next((shared_dir / "seeds").glob("003_*.txt")).read_text(encoding="utf-8")
    folder = Path(__file__).parents[2] / "sentibench/paper"
    for row in yaml.safe_load((folder / "table1.yaml").read_text())["rows"]:
        classes = "" if row["classes"] is None else str(row["classes"])
        pattern = (f"{row['title']}\t{row['dataset']}\t{row['train']}\t{row['dev']}\t{row['test']}\t"
                   f"{classes}-?\t{row['metric']}")
        assert re.search(pattern, printed)
    rows = yaml.safe_load((folder / "table2.yaml").read_text())["rows"]
    assert len(rows) == 19
    for row in rows:
        assert tuple(row["scores"]) == ORDER
        scores = "\t".join(f"{value:.2f}" for value in row["scores"].values())
        assert re.search(rf"{re.escape(row['model'])}\t{scores}\t{row['average']:.2f}", printed, re.IGNORECASE)
        assert sum(row["scores"].values()) / 12 == pytest.approx(row["average"], abs=0.011)


def test_the_released_data_have_the_sizes_of_table_1(shared_dir: Path) -> None:
    for task in all_tasks().values():
        assert len(load_split(task, shared_dir / "sentibench", "test")) == task.table1.test
        n_train = len(load_split(task, shared_dir / "sentibench", "train"))
        assert n_train == task.table1.train + (0 if "val" in task.splits else task.table1.dev)


@pytest.mark.parametrize(("name", "expected"), [
    ("atsa", 1.0), ("acsa", 1.0), ("asqp", 0.9962453066), ("ssa", 0.8942670049)])
def test_gold_answers_score_as_in_the_authors_scorer(name: str, expected: float, shared_dir: Path) -> None:
    """As measured with that scorer: asqp strips answers but not gold, ssa takes the first place a text stands in."""
    task = get_task(name)
    items = load_split(task, shared_dir / "sentibench", "test")
    answers = [read_answer(task, item.label_text) for item in items]
    assert score_answers(task, items, answers).score == pytest.approx(expected, abs=1e-6)


def test_atsa_orders_positions_as_text_and_leaves_implicit_aspects_out() -> None:
    def aspect(target: str | None, start: str, end: str, polarity: str = "positive") -> dict:
        return {"target": target, "from": start, "to": end, "polarity": polarity}

    example = {"sentence": "soup, tea, soup", "aspects": [
        aspect("tea", "6", "9"), aspect("soup", "11", "15", "negative"), aspect("soup", "0", "4"),
        aspect("NULL", "0", "0"), aspect(None, "0", "0"), aspect("soup", "0", "4"),
        aspect("soup", "0", "4", "negative")]}
    assert atsa(example, POLARITIES) == (
        ("soup", "positive"), ("soup", "negative"), ("soup", "negative"), ("tea", "positive"))


def test_acsa_and_asqp_list_each_tuple_once() -> None:
    aspects = [{"category": "FOOD#STYLE_OPTIONS", "polarity": "positive"}] * 2
    assert acsa({"sentence": "x", "aspects": aspects}, POLARITIES) == (("food style_options", "positive"),)
    quad = {"category": "food quality", "aspect": "tea", "opinion": "hot", "sentiment": "neutral"}
    assert asqp({"sentence": "x", "quards": [quad, quad]}, POLARITIES) == (("food quality", "tea", "hot", "neutral"),)


def test_ssa_joins_parts_and_writes_null() -> None:
    opinion = {"Source": [[], []], "Target": [["the", "bed"], ["0:3", "4:7"]],
               "Polar_expression": [["so", "soft"], ["8:10", "11:15"]], "Polarity": "Positive"}
    example = {"sentence": "the bed so soft", "opinions": [opinion, opinion]}
    assert ssa(example, POLARITIES) == (("NULL", "the AND bed", "so AND soft", "positive"),)
    assert ssa({"sentence": "x", "opinions": []}, POLARITIES) == (("NULL", "NULL", "NULL", "NULL"),)


@pytest.mark.parametrize(("task", "rows", "message"), [
    ("sst2", '[{"sentence": "fine", "label": "pos', "not valid JSON .line 1"),
    ("sst2", [], "an empty list"),
    ("sst2", {"sentence": "x"}, "holds dict"),
    ("sst2", [{"sentence": "x", "label": "positive"}, {"label": "positive"}], "example 1 .* 'sentence' is missing"),
    ("sst2", [{"sentence": " ", "label": "positive"}], "example 0 .* 'sentence' is ' ', not a text"),
    ("sst2", [{"sentence": "x", "label": "great"}], "label 'great' is not one of"),
    ("sst2", [{"sentence": "x"}], "'label' is missing"),
    ("sst2", [7], "not a JSON object"),
    ("mint", [{"sentence": "x", "label": "Intimate"}], "not one of .'Not Intimate'"),
    ("pstance", [{"sentence": "x", "label": "FAVOR"}], "'target' is missing"),
    ("atsa", [{"sentence": "x"}], "no field 'aspects'"),
    ("atsa", [{"sentence": "x", "aspects": [{"target": "x", "polarity": "fine", "from": "0", "to": "1"}]}], "polarity"),
    ("atsa", [{"sentence": "x", "aspects": [{"target": "y", "polarity": "positive", "from": "0", "to": "1"}]}],
     "does not stand in its sentence"),
    ("asqp", [{"sentence": "x", "quards": [["a"]]}], "quadruple 0 is not an object"),
    ("ssa", [{"sentence": "x", "opinions": [{"Source": [[], []], "Target": [["x"], ["0-1"]]}]}], "0-1"),
])
def test_bad_examples_are_named_by_file_example_and_field(
    tmp_path: Path, task: str, rows: object, message: str
) -> None:
    path = write(tmp_path, task, rows)
    with pytest.raises(InputError, match=message) as caught:
        load_split(get_task(task), tmp_path, "test")
    assert str(path) in str(caught.value)


def test_missing_data_are_named_with_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data folder .*nowhere"):
        load_split(get_task("sst2"), tmp_path / "nowhere", "test")
    write(tmp_path, "sst2", [], "train")
    with pytest.raises(InputError, match=r"missing \(its folder holds train.json\)"):
        load_split(get_task("sst2"), tmp_path, "test")


def test_unknown_tasks_name_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'twitter17'"):
        select_tasks(["twiter17"])
    with pytest.raises(InputError, match="No task is named"):
        select_tasks("")
    assert [task.name for task in select_tasks("ssa, imdb,ssa")] == ["imdb", "ssa"]


def test_a_task_file_is_closed() -> None:
    with pytest.raises(ValueError, match="labls"):
        Task.model_validate({**get_task("sst2").model_dump(), "labls": []})


def test_benchmark_texts_are_all_an_evaluation_can_show() -> None:
    texts = {item.text for item in benchmark_texts("shipped:data/sentibench", ["sst2"])}
    for split in ("train", "test"):
        assert {item.sentence for item in load_split(get_task("sst2"), "shipped:data/sentibench", split)} <= texts


def test_the_id_of_data_is_that_of_their_content(tmp_path: Path) -> None:
    rows = [{"sentence": "x", "label": "positive"}]
    for folder in ("a", "b"):
        write(tmp_path / folder, "sst2", rows)
    assert data_id(tmp_path / "a", ["sst2"]) == data_id(tmp_path / "b", ["sst2"])
    write(tmp_path / "b", "sst2", [*rows, *rows])
    assert data_id(tmp_path / "a", ["sst2"]) != data_id(tmp_path / "b", ["sst2"])
