"""The whole way with flows/configs/ci.yaml, as a user runs it: real processes, Prefect's embedded server."""

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest
import yaml

from distill.run.records import Response, read_records
from distill.run.row_counts import RowCounts
from tests.support.flow import ENVIRONMENT, ROOT, distill
from tests.support.machine_code import share_machine_code
from tests.support.stack import begun


def mtimes(folder: Path) -> dict[str, int]:
    """When every file but the report and the lock was last written."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")
            if path.is_file() and "report" not in path.parts and path.name not in (".lock", "row_counts.json")}


def answers(run: Path, stage: str) -> list[Response]:
    """All responses of a stage by prompt."""
    found = [item for path in (run / stage / "responses").glob("*.parquet") for item in read_records(path, Response)]
    return sorted(found, key=lambda item: item.prompt_id)


def test_every_row_of_a_run_is_accounted_for(place: Path) -> None:
    written = json.loads((place / "runs/ci/row_counts.json").read_text())
    accounts = [RowCounts.from_json(item).check() for item in written]
    by_stage = {account.stage: account for account in accounts}
    assert by_stage["clean"].n_in == by_stage["collect"].n_out
    assert by_stage["knowdist"].n_in == by_stage["prompts/knowdist"].n_out == 24
    assert by_stage["icldist"].n_in == by_stage["prompts/icldist"].n_out + by_stage["prompts/general"].n_out
    for stage in ("knowdist", "icldist"):
        assert by_stage[f"dataset/{stage}"].n_in == by_stage[stage].n_in
        assert by_stage[f"train/{stage}"].n_in == by_stage[f"dataset/{stage}"].n_out


def test_the_report_stands_alone_and_agrees_with_its_data(place: Path) -> None:
    report = place / "runs/ci/report"
    page, results = (report / "report.html").read_text(), json.loads((report / "results.json").read_text())
    assert "<script" not in page and "<link" not in page and page.count("<svg") == 4
    assert len(results["sentibench"]["tasks"]) == 12
    assert {item["stage"] for item in results["training"]} == {"knowdist", "icldist"}
    assert list(results["validation"]["models"]) == ["base", "stage1", "distilled"]
    assert [len(case["answers"]) for case in results["case_study"]] == [3]
    assert results["parameters"]["base"] == results["parameters"]["teacher"] < 1_000_000
    differing = results["contrasts"]
    assert len(differing["examples"]) == min(4, differing["n_won"]) + min(4, differing["n_lost"])
    task = results["sentibench"]["tasks"][0]
    assert f"| {100 * task['scores']['distilled']['value']:.1f}" in (report / "report.md").read_text()


def test_a_second_run_reuses_everything(place: Path, served: dict[str, str]) -> None:
    before = mtimes(place / "runs/ci")
    done = distill("run", "ci", cwd=place, **served)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("already done, reused") == 13
    assert mtimes(place / "runs/ci") == before


def test_a_run_killed_in_generation_is_resumed_to_the_same_end(place: Path, served: dict[str, str]) -> None:
    run = begun(place / "runs/ci", place / "runs/killed", "corpus", "prompts")
    (run / "config.yaml").unlink()  # what comes after generation is smaller
    smaller = ("train.stages=[unified]", "train.gate.enabled=false", "teacher_eval.gold.examples=0",
               "evaluate.models=[distilled]", "evaluate.tasks=[sst2]")
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli.main", "run", "ci", "--run", "killed",
         *(word for one in smaller for word in ("--set", one))], cwd=place, start_new_session=True,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(place / "prefect")},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(run.glob("knowdist/responses/*.json")):
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    started = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert len(started) > 2, "a server, a fork server, an engine"
    assert not psutil.wait_procs(started, timeout=30)[1], "something outlived the run"
    finished = mtimes(run / "corpus") | mtimes(run / "prompts")
    done = distill("resume", "killed", cwd=place, **served)
    assert done.returncode == 0, done.stderr[-3000:]
    assert mtimes(run / "corpus") | mtimes(run / "prompts") == finished
    assert answers(run, "icldist") == answers(place / "runs/ci", "icldist")
    assert [item.prompt_id for item in answers(run, "knowdist")] == [
        item.prompt_id for item in answers(place / "runs/ci", "knowdist")]
    row_counts = [json.loads((place / "runs" / name / "row_counts.json").read_text()) for name in ("ci", "killed")]
    kept = [[item for item in counts if item["stage"] in ("collect", "clean", "dedup", "knowdist", "icldist")]
            for counts in row_counts]
    assert kept[0] == kept[1]


def test_status_shows_every_stage(place: Path) -> None:
    done = distill("status", "ci", cwd=place, COLUMNS="200")
    assert done.returncode == 0
    assert done.stdout.count("done") >= 9


def test_changed_settings_stop_with_what_changed(place: Path) -> None:
    done = distill("run", "ci", "--set", "train.knowdist.learning_rate=5e-4", cwd=place)
    assert done.returncode == 2
    assert "train.knowdist.learning_rate: 0.001 then, 0.0005 now" in done.stderr
    assert "--discard" in done.stderr


@pytest.mark.parametrize(("arguments", "said"), [
    (("run", "nothing.yaml"), "no config file nothing.yaml"),
    (("resume", "nothing"), "no run 'nothing'"),
    (("status", "nothing"), "Runs in runs/"),
    (("config", "ci", "--set", "trian.max_length=1"), "did you mean 'train'"),
    (("collect", "ci", "--run", "bad1", "--set", "corpus.sources.0.path=/no/such/file.csv"), "/no/such/file.csv"),
    (("collect", "ci", "--run", "bad2", "--set", "corpus.sources.0.text_column=reviw"), "id you mean 'review'"),
    (("collect", "ci", "--run", "bad3", "--set", "corpus.clean.min_chars=3999"), "no text is left"),
    (("config", "ci", "--set", "evaluate.seeds.0.x.y=1"), "has no parts"),
    (("config", "ci", "--set", "name=2024-13-01"), "not valid YAML"),
    (("prompts", "ci", "--run", "none"), "distill collect"),
    (("evaluate", "ci", "--run", "none"), "distill train"),
])
def test_bad_input_is_one_paragraph_and_status_2(place: Path, arguments: tuple[str, ...], said: str) -> None:
    done = distill(*arguments, cwd=place)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2, done.stderr
    assert len(errors) == 1 and said in errors[0], done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_in_the_first_command_does_not_block_the_second(place: Path) -> None:
    assert distill("collect", "ci", "--run", "again", "--set", "corpus.sources.0.path=nowhere.csv",
                   cwd=place).returncode == 2
    done = distill("collect", "ci", "--run", "again", cwd=place)
    assert done.returncode == 0, done.stderr


def test_a_stage_without_samples_is_left_out(place: Path) -> None:
    from distill.config.load import load_config
    from flows.plan import trained_stages
    from flows.run import Run

    config = load_config(ROOT / "flows/configs/ci.yaml", ["prompts.knowdist.samples=0"])
    assert trained_stages(Run(config, place)) == ["icldist"]


def test_an_unknown_model_is_bad_input_in_the_flow_too(place: Path) -> None:
    done = distill("run", "ci", "--run", "unknown", "--set", "teacher.model.name=smollm2-135m-instruc", cwd=place,
                   HF_HUB_OFFLINE="1")
    assert done.returncode == 2, done.stderr
    assert "smollm2-135m-instruct" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_deployment_leads_to_a_flow_that_takes_its_parameters() -> None:
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    # A process of its own, as a worker's is: in this one the packages are imported already.
    code = ("import json, sys; from prefect.flows import load_flow_from_entrypoint as load\n"
            "flows = [load(entrypoint, use_placeholder_flow=False) for entrypoint in sys.argv[1:]]\n"
            "print(json.dumps([[flow.name, list(flow.parameters.properties)] for flow in flows]))")
    loaded = subprocess.run(
        [sys.executable, "-c", code, *(item["entrypoint"] for item in declared)], cwd=ROOT, env=ENVIRONMENT, check=True,
        capture_output=True, text=True).stdout
    names = set()
    for deployment, (flow, parameters) in zip(declared, json.loads(loaded.splitlines()[-1]), strict=True):
        names.add(f"{flow}/{deployment['name']}")
        assert set(deployment.get("parameters", ())) <= set(parameters)
    assert names == {"distill/full", "distill/demo", "distill/resume", "generate/resume", "evaluate/nightly",
                     "encoder/train"}
    assert next(item for item in declared if item["name"] == "nightly")["schedules"][0]["cron"]


def test_a_wheel_holds_all_that_the_pipeline_reads(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT,
                   check=True, capture_output=True)
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    shipped = {str(path.relative_to(ROOT)) for folder in ("prompts", "data") for path in (ROOT / folder).rglob("*")
               if path.is_file() and path.suffix in (".yaml", ".json", ".jsonl", ".csv", ".txt")}
    assert shipped == {str(path.relative_to(site / "distill/_shipped")) for folder in ("prompts", "data")
                       for path in (site / "distill/_shipped" / folder).rglob("*")
                       if path.is_file() and path.suffix in (".yaml", ".json", ".jsonl", ".csv", ".txt")}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = [p for p in sys.path if p not in ('', {str(ROOT)!r})]; "
         f"sys.path.insert(0, {str(site)!r}); from flows.cli import main; "
         f"assert main.__file__.startswith({str(site)!r}); main.main(['collect', 'ci'])"],
        cwd=empty, capture_output=True, text=True, check=False,
        env={**ENVIRONMENT, **share_machine_code(site, tmp_path / "machine-code")})
    assert done.returncode == 0, done.stderr
    assert (empty / "runs/ci/corpus/texts.parquet").exists()
    for needed in ("sentibench/tasks/sst2.yaml", "sentibench/paper/table2.yaml", "flows/report/template.html",
                   "flows/configs/demo.yaml"):
        assert (site / needed).exists()


@pytest.mark.slow
def test_real_small_runs_on_the_real_data_with_a_tiny_model(
        tmp_path: Path, shared_dir: Path, served: dict[str, str]) -> None:
    """The shipped config, vLLM included; only the models and the sizes are small."""
    sizes = ["prompts.knowdist.samples=8", "prompts.icldist.samples=9", "prompts.general.samples=6",
             "teacher.sampling.knowdist.max_tokens=8", "teacher.model.name=random-tiny",
             "teacher.max_unusable=1", "student.model.name=random-tiny",
             "filters={truncated: false, off_list: false, copied: false, repetitive: false}",
             "train.dtype=float32", "evaluate.engine.dtype=float32", "evaluate.limit=1", "evaluate.validation.labels=2",
             "teacher_eval.gold.examples=0", "evaluate.models=[distilled]",
             "train.gate={min_ended: 0, max_repeated: 1, min_valid_labels: 0}"]
    done = distill("run", "real-small", *(part for size in sizes for part in ("--set", size)), cwd=tmp_path,
                   **served)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = {item["stage"]: item for item in json.loads((tmp_path / "runs/real-small/row_counts.json").read_text())}
    assert counts["collect"]["n_out"] == 2000 and counts["decontaminate"]["dropped"]["benchmark_exact"] > 0
    assert counts["icldist"]["n_out"] == 15
    results = json.loads((tmp_path / "runs/real-small/report/results.json").read_text())
    assert len(results["sentibench"]["tasks"]) == 12
