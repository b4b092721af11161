"""A killed evaluation goes on with the example at which it stopped, and ends as if it had not been killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from distill.run.storage import read_json
from sentibench.cli import main

TASKS, LIMIT, SEEDS = ("sst2", "ssa"), 10, tuple(range(10))
"""One hundred prompts of tuples: more than are answered at once, so that some are done long before the last."""


def _run(model: Path, out: Path, until: int | None = None) -> None:
    """Run the command; with ``until``, kill all its processes once so many tuples have been answered."""
    command = ["run", "--model", str(model), "--tasks", ",".join(TASKS), "--seeds", ",".join(map(str, SEEDS)),
               "--limit", str(LIMIT), "--out", str(out)]
    if until is None:
        assert main(command) == 0
        return
    process = subprocess.Popen([sys.executable, "-m", "sentibench.cli", *command], start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    answers = out / "answers/ssa.jsonl"
    while process.poll() is None:
        if answers.exists() and answers.read_bytes().count(b"\n") >= until:
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.002)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, errors


def _results(out: Path) -> dict[str, dict]:
    return {path.name: read_json(path) for path in sorted(out.glob("*.seed*.json"))}


def test_after_sigkill_only_what_is_missing_is_asked_and_the_results_are_the_same(
        tiny_model: Path, tmp_path: Path) -> None:
    _run(tiny_model, tmp_path / "whole")
    _run(tiny_model, tmp_path / "killed", until=3)
    kept = sum(1 for line in (tmp_path / "killed/answers/ssa.jsonl").read_bytes().splitlines(keepends=True)
               if line.endswith(b"}\n"))
    before = {name: path.stat().st_mtime_ns for name in (f"sst2.seed{seed}.json" for seed in SEEDS)
              if (path := tmp_path / "killed" / name).exists()}
    assert 3 <= kept < len(SEEDS) * LIMIT and len(before) == len(SEEDS)
    _run(tiny_model, tmp_path / "killed")
    whole, resumed = _results(tmp_path / "whole"), _results(tmp_path / "killed")
    assert list(whole) == list(resumed) and len(whole) == 2 * len(SEEDS)
    for name, result in whole.items():
        for key in ("value", "invalid", "prompts_sha256", "key", "n"):
            assert resumed[name][key] == result[key], (name, key)
        said = "raw" if name.startswith("ssa") else "prediction"
        assert [row[said] for row in resumed[name]["predictions"]] == [row[said] for row in result["predictions"]]
    asked = sum(result["n_asked"] for name, result in resumed.items() if name.startswith("ssa"))
    assert asked == len(SEEDS) * LIMIT - kept
    assert {name: (tmp_path / "killed" / name).stat().st_mtime_ns for name in before} == before
