"""Every command in the README and in docs/own-task.md is run here or by .ci/run, or says that it needs GPUs."""

import json
import re
import shlex
import shutil
from pathlib import Path

import yaml

from distill.config.load import load_config
from flows.orchestration.server import answers
from tests.support.flow import ROOT, distill
from tests.support.stack import Stack, begun, wait_until

README = (ROOT / "README.md").read_text(encoding="utf-8")
OWN_TASK = (ROOT / "docs/own-task.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every line of a bash block without its comment; those that say they need GPUs are left out."""
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]
    return [line.partition("  #")[0].strip() for line in lines if "needs GPUs" not in line]


LAPTOP, STATUS, SHOW, EXPLAIN, RESUME = (next(line for line in commands() if line.startswith(start)) for start in (
    "distill run demo", "distill status", "distill show", "distill explain", "distill resume"))
SENTIBENCH = [line for line in commands() if line.startswith("sentibench ")]
BASELINE, NIGHTLY = (next(line for line in commands() if line.startswith(start)) for start in (
    "distill set-baseline", "distill nightly"))
PREFECT = [line for line in commands() if line.startswith((
    "prefect ", "export PREFECT_API_URL", "distill ui", "distill deploy", "distill worker"))]


def test_no_command_is_left_untried() -> None:
    ci = (ROOT / ".ci/run").read_text().splitlines()
    by_ci = [line for line in commands() if any(f"{one.strip()} ".startswith(f"{line} ") for one in ci)]
    assert by_ci == ["make demo", "make test"]
    tried = {*by_ci, LAPTOP, STATUS, SHOW, EXPLAIN, RESUME, BASELINE, NIGHTLY, *SENTIBENCH, *PREFECT,
             "source .venv/bin/activate"}
    assert set(commands()) == tried


def test_the_config_in_five_lines_is_a_config(tmp_path: Path) -> None:
    (block,) = blocks("yaml")
    (tmp_path / "mine.yaml").write_text(block)
    config = load_config(tmp_path / "mine.yaml")
    assert config.name == "mine" and config.teacher.engine.kind == "vllm"


def test_the_first_look_on_a_laptop_and_what_follows_it(place: Path, served: dict[str, str]) -> None:
    """With ci.yaml in place of demo.yaml, which .ci/run runs; the rest of the commands as they stand.

    The run is taught a task of the user's own, too, as docs/own-task.md says it.
    """
    new, check, run_mine, asked = (line.partition("  #")[0].strip() for block in blocks("bash", OWN_TASK)[:2]
                                   for line in block.splitlines())
    for line in (new, check):
        done = distill(*shlex.split(line)[1:], cwd=place)
        assert done.returncode == 0, done.stderr[-3000:]
    added = yaml.safe_load(blocks("yaml", OWN_TASK)[0])
    settings = [f"prompts.icldist.{key}={json.dumps(value)}" for key, value in added["prompts"]["icldist"].items()]
    settings.append(f"evaluate.tasks={json.dumps(added['evaluate']['tasks'])}")
    shutil.copy(ROOT / "data/demo/reviews.csv", place / "reviews.csv")
    text = (place / "reviews.csv").read_text(encoding="utf-8")
    (place / "reviews.csv").write_text(text.replace("review,domain", "text,domain", 1), encoding="utf-8")
    run = shlex.split(LAPTOP)
    assert run[:3] == ["distill", "run", "demo"]
    assert run_mine == "distill run mine.yaml" and run[3:5] == ["--run", "mine"]
    done = distill("run", "ci", *run[3:], *(word for one in settings for word in ("--set", one)), cwd=place, **served)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "collect 85 texts" in done.stderr
    for line in (STATUS, SHOW, EXPLAIN, RESUME, BASELINE, NIGHTLY):
        done = distill(*shlex.split(line)[1:], cwd=place, **served)
        assert done.returncode == 0, done.stderr[-3000:]
    text, _, line = asked.partition(" | ")
    done = distill(*shlex.split(line)[1:], cwd=place, stdin=shlex.split(text)[1])
    assert done.returncode == 0 and json.loads(done.stdout)["label"] in ("satisfied", "mixed", "annoyed"), done.stderr
    for line in SENTIBENCH:
        done = distill(*shlex.split(line)[1:], cwd=place, module="sentibench.cli")
        assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((place / "results").rglob("*.seed*.json"))) == 2 * 3


def test_the_commands_of_sentibench_run_as_its_readme_has_them(tmp_path: Path) -> None:
    text = (ROOT / "sentibench/README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert "--model smollm2-135m-instruct" in block
    for line in block.replace("--model smollm2-135m-instruct", "--model random-tiny").splitlines():
        done = distill(*shlex.split(line)[1:], cwd=tmp_path, module="sentibench.cli")
        assert done.returncode == 0, (line, done.stderr[-3000:])
    assert (tmp_path / "results/scores.svg").exists() and (tmp_path / "lm-eval-tasks/sentibench_atsa.yaml").exists()


def test_the_deployments_are_registered_and_the_full_one_runs_to_its_end(place: Path, tmp_path: Path) -> None:
    """The block of the README on one machine, which is SQLite, with a free port; a worker goes on with a run that has
    been trained. (That it runs the whole flow, tests/conftest.py requires of the production stack.)
    """
    (tmp_path / "runs").mkdir()
    begun(place / "runs/ci", tmp_path / "runs/ci", "corpus", "prompts", "knowdist", "icldist", "teacher_eval/gold",
          "dataset", "models/knowdist", "gate/knowdist", "models/final", "gate/icldist", "validation", "calibration")
    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    stack = Stack(tmp_path)
    assert PREFECT[0] == "export PREFECT_API_URL=http://127.0.0.1:4200/api"
    try:
        for line in PREFECT[1:]:
            program, *rest = shlex.split(line.removesuffix("&"))
            command = [{"distill": "flows.cli.main"}.get(program, program), *rest]
            if line.endswith("&"):
                if "ui" in rest:
                    stack.start(*command, "--port", str(stack.port))
                    wait_until("the server answers", lambda: answers(stack.api))
                else:
                    stack.start(*command)
            else:
                stack.call(*command)
        assert (tmp_path / "runs/ci/report/report.html").exists(), stack.log()
    finally:
        stack.close()
