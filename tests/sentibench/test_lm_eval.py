"""The tasks we export are run by the real lm-eval, and score as ours do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from distill.models import resolve_model
from distill.run.folder import MARK
from sentibench.cli import main
from sentibench.registry import get_task
from tests.support.flow import ENVIRONMENT, ROOT

TASKS = ("sst2", "atsa", "ssa")
"""One for each metric; both labels of sst2 are single tokens of the model's."""
LIMIT = 2
"""lm-eval writes each tuple answer to the last token that it may have."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lm-eval")
    assert main(["export", "lm-eval", str(folder / "tasks"), "--tasks", ",".join(TASKS), "--limit", str(LIMIT)]) == 0
    return folder


def test_the_export_holds_a_task_each_and_a_group_of_them(exported: Path) -> None:
    names = {path.name for path in (exported / "tasks").iterdir()}
    assert names == {MARK, "utils.py", "sentibench.yaml", *(f"sentibench_{task}.yaml" for task in TASKS),
                     *(f"{task}.jsonl" for task in TASKS)}
    rows = [json.loads(line) for line in (exported / "tasks/sst2.jsonl").read_text().splitlines()]
    assert len(rows) == LIMIT and rows[0]["prompt"].endswith("\nLabel:") and rows[0]["label"] in get_task("sst2").labels


@pytest.mark.slow
def test_lm_eval_gives_the_same_scores(exported: Path) -> None:
    model = resolve_model("smollm2-135m-instruct")  # random weights write no tuples to be scored
    assert main(["run", "--model", str(model), "--tasks", ",".join(TASKS), "--seeds", "42", "--limit", str(LIMIT),
                 "--out", str(exported / "ours")]) == 0
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(
        exported / "cache"), "HF_HOME": str(exported / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32",
         "--include_path", str(exported / "tasks"), "--tasks", "sentibench", "--device", "cpu", "--batch_size", "1",
         "--output_path", str(exported / "theirs")],
        env=environment, capture_output=True, text=True, check=False, cwd=exported)
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = (exported / "theirs").rglob("results_*.json")
    theirs = json.loads(path.read_text())["results"]
    assert any(theirs[f"sentibench_{name}"][f"{get_task(name).metric},none"] for name in ("atsa", "ssa"))
    for name in TASKS:
        ours = json.loads((exported / "ours" / f"{name}.seed42.json").read_text())
        assert theirs[f"sentibench_{name}"][f"{ours['metric']},none"] == pytest.approx(ours["value"], abs=1e-9), name
