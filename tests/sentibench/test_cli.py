"""The command ``sentibench``: what it prints, and its exit status."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sentibench.cli import main
from sentibench.data import load_split
from sentibench.registry import get_task, known_tasks

DATA = "shipped:data/sentibench"


def predictions(path: Path, answers: list[str], indices: list[int] | None = None) -> list[str]:
    rows = [{"index": index, "prediction": answer}
            for index, answer in zip(indices or range(len(answers)), answers, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ["score", "sst2", "--predictions", str(path), "--data-dir", DATA, "--json"]


@pytest.fixture
def gold() -> list[str]:
    return [str(item.gold) for item in load_split(get_task("sst2"), DATA, "test")]


def test_help_and_list_need_no_heavy_import() -> None:
    code = ("import sys; from sentibench.cli import main; main(['list']); "
            "sys.exit(bool({'torch', 'transformers', 'vllm', 'datasets', 'prefect'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_list_names_every_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in known_tasks())
    assert main(["list", "--json"]) == 0
    assert [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()] == list(known_tasks())


def test_prompts_are_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "atsa", "--seed", "52", "--limit", "2", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["index"] for row in rows] == [0, 1]
    assert all(set(row) == {"index", "prompt", "label"} and row["label"].startswith("[") for row in rows)
    assert main(["prompts", "atsa", "--limit", "1", "--protocol", "paper"]) == 0
    assert "Label:" in capsys.readouterr().out


def test_score_prints_one_line(tmp_path: Path, capsys, gold: list[str]) -> None:
    assert main(predictions(tmp_path / "p.jsonl", gold)) == 0
    assert json.loads(capsys.readouterr().out) == {
        "task": "sst2", "metric": "macro_f1", "value": 1.0, "accuracy": 1.0, "n": len(gold), "invalid": 0,
        "reading": "paper"}


def test_score_takes_lines_in_any_order_and_counts_empty_predictions(tmp_path: Path, capsys, gold: list[str]) -> None:
    answers = ["", *gold[1:]]
    main(predictions(tmp_path / "a.jsonl", answers))
    forward = capsys.readouterr().out
    main(predictions(tmp_path / "b.jsonl", answers[::-1], list(range(len(gold)))[::-1]))
    assert capsys.readouterr().out == forward
    found = json.loads(forward)
    assert found["invalid"] == 1 and found["n"] == len(gold) and 0 < found["value"] < 1


@pytest.mark.parametrize("reading", ["released", "paper"])
def test_what_a_model_generated_is_scored_by_its_first_line_as_in_a_run(tmp_path: Path, capsys, reading: str) -> None:
    items, file = load_split(get_task("atsa"), DATA, "test"), tmp_path / "said.jsonl"
    for more in ("", "\nSentence: The soup was cold.\nLabel: [('soup', 'negative')]"):
        file.write_text("".join(json.dumps({"index": place, "prediction": f" {item.label_text}{more}"}) + "\n"
                                for place, item in enumerate(items)))
        assert main(["score", "atsa", "--predictions", str(file), "--data-dir", DATA, "--json", "--reading",
                     reading]) == 0
        assert json.loads(capsys.readouterr().out)["value"] == 1.0


@pytest.mark.parametrize(("line", "message"), [
    ('{"index": 0, "prediction": "positive"}\n' * 2, "line 2: the index 0 stands in line 1 already"),
    ('{"index": -1, "prediction": "positive"}', "out of range"),
    ('{"index": 9999, "prediction": "positive"}', "out of range"),
    ('{"index": 0, "prediction": "positive"}', "no prediction for"),
    ('{"index": "0", "prediction": "positive"}', "'index' (a whole number)"),
    ('{"index": true, "prediction": "positive"}', "'index' (a whole number)"),
    ('{"index": 0}', "'prediction'"), ('{"index": 0, "pred', "line 1, is not JSON"), ("[" * 100_000, "is not JSON"),
    ("", "no prediction for"),
])
def test_bad_predictions_are_bad_input(tmp_path: Path, capsys, line: str, message: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(line, encoding="utf-8")
    assert main(["score", "sst2", "--predictions", str(path), "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and message in printed.err and "Traceback" not in printed.err
    assert len(printed.err.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [
    ["prompts", "sst3"], ["prompts", "sst2", "--data-dir", "nowhere"], ["compare", "nowhere"],
    ["score", "sst2", "--predictions", "nowhere.jsonl"],
    ["run", "--model", "m", "--tasks", "sst3", "--out", "o"],
    ["run", "--model", "m", "--seeds", "a", "--out", "o"],
    ["run", "--model", "./nowhere/model", "--out", "o"],
])
def test_bad_input_is_one_paragraph_and_status_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("sentibench: ") and len(printed.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [
    [], ["run"], ["prompts", "sst2", "--limit", "0"], ["prompts", "x", "--protocol", "y"]])
def test_wrong_usage_is_status_2(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
