"""What people see of generation: how far it is and what it costs, what differs."""

import signal
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from distill.config.load import load_config
from distill.config.schema import Config
from distill.engines.base import Output
from distill.errors import InputError
from distill.generation.forecast import Forecast
from distill.run.records import Prompt, read_records, write_records
from flows.cli.commands import explain_command
from flows.cli.explain import explain
from flows.cli.main import build_parser, main
from flows.cli.status import teacher_table
from flows.forecast import forecast_table
from flows.run import find_config, open_run
from tests.support.flow import distill
from tests.support.generation import FakeEngine
from tests.support.stack import begun


def shown(thing: Any) -> str:
    console = Console(file=StringIO(), width=100)
    console.print(thing)
    return console.file.getvalue()  # type: ignore[attr-defined]


def priced() -> Config:
    return load_config(find_config("ci"), ["teacher.price_per_gpu_hour=2.5"])


def test_status_tells_rows_pace_hours_and_cost(place: Path) -> None:
    said = shown(teacher_table(place / "runs/ci"))
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:]]
            for line in said.splitlines() if len(cells := line.strip("│ ").split("│")) == 3}
    assert rows["prompts"] == rows["answered"] == ["24", "36"]
    assert rows["left"] == ["0", "0"] and rows["finished shards"] == ["4", "8"]
    assert all(float(value) > 0 for value in rows["output tokens a second"])
    assert any(name.endswith("hours so far") for name in rows) and "cost so far" not in rows


def test_how_the_work_is_done_may_change_and_what_it_makes_may_not(place: Path) -> None:
    run = place / "runs/ci"
    with open_run(run=str(run), overrides=["teacher.price_per_gpu_hour=2.5", "teacher.data_parallel=2"]) as opened:
        assert opened.config.teacher.data_parallel == 2
    assert "cost so far" in shown(teacher_table(run))
    with pytest.raises(InputError, match=r"temperature: 0\.0 then, 0\.9 now.*distill explain RUN"), \
            open_run(run=str(run), overrides=["teacher.sampling.knowdist.temperature=0.9"]):
        pass
    with open_run(run=str(run), overrides=["teacher.price_per_gpu_hour=null", "teacher.data_parallel=1"]):
        pass


def test_explain_says_what_differs_and_of_how_many_shards(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = place / "runs/ci"
    assert explain(run, None, []) == []
    rows = explain(run, None, ["teacher.sampling.knowdist.temperature=0.9", "teacher.stall_seconds=5"])
    assert {(row["where"], row["key"], row["then"], row["now"], row["what"]) for row in rows} == {
        ("config", "teacher.sampling.knowdist.temperature", 0.0, 0.9, "decides results"),
        ("config", "teacher.stall_seconds", 900.0, 5.0, "decides nothing that is made"),
        ("knowdist, shards", "sampling.knowdist.temperature", 0.0, 0.9, "4 of 4 shards")}
    explain_command(build_parser().parse_args(["explain", str(run), "--set", "teacher.shard_size=3"]))
    assert "shard_size" in capsys.readouterr().out


def test_a_forecast_is_a_table_of_aligned_numbers() -> None:
    forecast = Forecast("knowdist", 64, 1_000_000, 990_000, 180.5, 300.25, 2_500.0, 30_000.0, 4, 33.0, 132.0, 330.0)
    lines = forecast_table(forecast, priced().teacher).splitlines()
    end = lines[1].index("178,695,000") + len("178,695,000")
    assert all(line[end - 1] != " " and line[end:end + 3] == "   " for line in lines), lines
    assert "297,247,500" in forecast_table(forecast, priced().teacher) and "2.5 a GPU hour" in lines[-1]


def test_finished_answers_of_a_run_are_scored_and_no_text_is_asked(
    place: Path, tmp_path: Path, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    begun(place / "runs/ci", tmp_path / "runs/old", "corpus", "prompts", "knowdist", "icldist", "usage")
    begun(place / "runs/ci", tmp_path / "runs/open", "corpus", "prompts")
    begun(place / "runs/ci", tmp_path / "runs/none", "corpus", "prompts", "icldist")
    monkeypatch.chdir(tmp_path)
    untold: set[str] = set()
    monkeypatch.setattr(fake, "_answer", lambda request: Output(
        request.id, "", "stop", 7, 0, label_logprobs=(-1.0,) * len(request.labels),
        top_logprobs=fake.top(7, request.top_k) if request.answer is not None and request.id not in untold else None))
    answers = {path: path.read_bytes() for path in (tmp_path / "runs/old/icldist/responses").iterdir()}
    assert "distributions that could be kept" in shown(teacher_table(tmp_path / "runs/old"))
    main(["generate", "old", "--logprobs"])
    assert fake.asked and not any(request.sampling.max_tokens for request in fake.asked)
    assert {path: path.read_bytes() for path in answers} == answers
    said = " ".join(capsys.readouterr().out.split())
    n_asked = len(fake.asked)
    assert f"{n_asked} answers are to be scored: about" in said and f"{n_asked} of {n_asked} answers have" in said
    main(["generate", "ci", "--run", "old", "--logprobs"])
    assert len(fake.asked) == n_asked
    asked = tmp_path / "runs/none/prompts/icldist.parquet"
    write_records(asked, Prompt, [replace(prompt, multi_label=True) for prompt in read_records(asked, Prompt)])
    for arguments, why in ((["open"], "Not all prompts of runs/open"), (["none"], "No prompt of runs/none"),
                           (["old", "--discard"], "leaves the answers"), (["ci"], "no run of ci"),
                           (["old", "--stage", "knowdist"], "no distribution"), (["absent"], "no config file absent")):
        with pytest.raises(SystemExit) as ended:
            main(["generate", *arguments, "--logprobs"])
        assert ended.value.code == 2 and why in " ".join(capsys.readouterr().err.split())
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"old", "open", "none"}
    capsys.readouterr()
    main(["generate", "old", "--logprobs", "--set", "teacher.logprobs.top_k=3"])
    free = [request for request in fake.asked[n_asked:] if request.top_k == 3 and request.answer is not None]
    assert len(free) == len(fake.asked) - n_asked and {path: path.read_bytes() for path in answers} == answers
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("likeliest tokens at each token") == 2 and "24 answers are to be scored" in said
    assert "could not be told" not in said
    untold.add(free[0].id)
    main(["generate", "old", "--logprobs", "--set", "teacher.logprobs.top_k=4"])
    assert " 1 could not be told" in " ".join(capsys.readouterr().out.split())
    assert "answers whose log-probabilities could not be told" in shown(teacher_table(tmp_path / "runs/old"))


def test_a_command_stops_at_its_budget_and_says_how_to_go_on(place: Path) -> None:
    begun(place / "runs/ci", place / "runs/poor", "corpus", "prompts")
    said = distill("generate", "ci", "--run", "poor", "--set", "teacher.budget.max_gpu_hours=1e-9", cwd=place)
    assert said.returncode == 1 and "distill resume runs/poor --set teacher.budget.max_gpu_hours=" in said.stderr


def test_a_command_that_is_terminated_ends_as_one_that_is_interrupted() -> None:
    waiting = ("import time; from flows.cli import commands, main as cli; "
               "commands.config_command = lambda _: (print('waits', flush=True), time.sleep(60)); cli.main()")
    process = subprocess.Popen([sys.executable, "-c", waiting, "config", "ci"], text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "waits\n"
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "Finished work is kept" in said
