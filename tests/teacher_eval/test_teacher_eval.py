"""The stages of the teacher's quality with a real model, their config, and their tables beside the paper's."""

import io
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from distill.config.load import load_config
from distill.config.prompt_files import knowdist_prompts
from distill.config.schema import Gold, IclDist, Judge, Model, Teacher, TransformersEngine
from distill.errors import InputError
from distill.models import Weights, model_fingerprint
from distill.teacher_eval.judge import judged_perspectives, score_verdicts
from distill.teacher_eval.rubric import UNREADABLE
from distill.teacher_eval.stage import check_gold, judge_analyses, read_scores, wanted_parts
from flows.cli.teacher_eval import asked_parts, printed
from flows.report.teacher_eval import teacher_eval_tables
from flows.run import Run
from sentibench.paper import paper_table
from tests.support.flow import ROOT
from tests.support.teacher_eval import answered, output, verdict_of, verdicts

PERSPECTIVES = list(judged_perspectives(knowdist_prompts()))

# ---------------------------------------------------------------- the stages, with a real model


def teacher_of(model: Path) -> Teacher:
    return Teacher(model=Model(name=str(model)), sampling={"icldist": {"temperature": 0, "max_tokens": 4}},
                   engine=TransformersEngine(dtype="float32"))


def test_every_gold_question_is_answered_and_accounted_for(tmp_path: Path, tiny_model: Path) -> None:
    weights = Weights(tiny_model, model_fingerprint(tiny_model))

    def check(examples: int = 3) -> Any:
        return check_gold(Gold(examples=examples), teacher_of(tiny_model), weights,
                          IclDist(max_demonstrations=2), tmp_path, 42)

    outcome = check()
    (counts,) = outcome.row_counts
    assert (counts.n_in, counts.n_out) == (6, 6 - counts.dropped.total()) and not outcome.reused
    rows = pq.read_table(outcome.folder / "answers.parquet").to_pylist()
    scores = read_scores(tmp_path)
    assert scores["judge"] is None and [one["n"] for one in scores["gold"].values()] == [3, 3]
    n_unreadable = sum(one["unreadable"] for one in scores["gold"].values())
    assert Counter(row["problem"] for row in rows)[UNREADABLE] == n_unreadable == counts.dropped[UNREADABLE]
    assert any(row["answer"] for row in rows) and outcome.details["output_tokens"] > 0
    assert check().reused
    with pytest.raises(InputError, match="questions"):
        check(4)


def test_every_analysis_is_marked_or_counted(tmp_path: Path, tiny_model: Path) -> None:
    answered(tmp_path)
    judge = Judge(model=Model(name=str(tiny_model)), engine=TransformersEngine(dtype="float32"), max_tokens=4,
                  responses_per_perspective=2)
    outcome = judge_analyses(judge, Weights(tiny_model, model_fingerprint(tiny_model)), tmp_path, 42)
    rows = pq.read_table(outcome.folder / "answers.parquet").to_pylist()
    assert [row["perspective"] for row in rows] == ["target", "target", "emotion", "emotion"]
    assert [row["problem"] for row in rows] == [UNREADABLE] * 4 and any(row["verdict"] for row in rows)
    assert outcome.row_counts[0].to_json() == {"stage": "teacher_eval/judge", "unit": "examples", "n_in": 4, "n_out": 0,
                                            "dropped": {UNREADABLE: 4}}
    assert [(row["asked"], row["n"], row["unreadable"]) for row in read_scores(tmp_path)["judge"]] == [(2, 0, 2)] * 2


class Marker(BaseHTTPRequestHandler):
    """A server of OpenAI's protocol whose model marks analyses of targets with 4 and all others with 2."""

    def do_GET(self) -> None:
        self.reply({"data": [{"id": "judge", "owned_by": "test"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        (turn,) = asked["messages"]
        assert (asked["temperature"], asked["max_tokens"], turn["role"]) == (0.0, 256, "user")
        said = verdict_of(*[4 if "analyze/target" in turn["content"] else 2] * 5)
        self.reply({"choices": [{"message": {"content": f"```json\n{said}\n```"}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 7, "completion_tokens": 3}})

    def reply(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_judge_behind_an_endpoint_marks_analyses(tmp_path: Path) -> None:
    answered(tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Marker)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        judge = Judge.model_validate({"model": {"name": "judge"}, "engine": {
            "kind": "openai", "base_urls": f"http://127.0.0.1:{server.server_port}/v1", "tokenizer": None}})
        outcome = judge_analyses(judge, Weights(None, "served:judge"), tmp_path, 42)
    finally:
        server.shutdown()
    rows = read_scores(tmp_path)["judge"]
    assert [(row["perspective"], row["asked"], row["n"]) for row in rows] == [("target", 5, 5), ("emotion", 5, 5)]
    assert [{one["mean"] for one in row["dimensions"].values()} for row in rows] == [{4.0}, {2.0}]
    assert outcome.details == {"prompt_tokens": 70, "output_tokens": 30} and not outcome.row_counts[0].dropped


def test_with_nothing_to_judge_no_result_is_left(tmp_path: Path, tiny_model: Path) -> None:
    answered(tmp_path, kinds=("rewrite/target",))
    judge = Judge(model=Model(name=str(tiny_model)))
    with pytest.raises(InputError, match="no analysis"):
        judge_analyses(judge, Weights(tiny_model, "weights"), tmp_path, 42)
    assert read_scores(tmp_path) == {"gold": None, "judge": None}


# ---------------------------------------------------------------- config and tables


def test_the_config_says_what_is_asked(tmp_path: Path) -> None:
    ci = ROOT / "flows/configs/ci.yaml"
    for overrides, parts in ((["teacher_eval.gold.examples=0"], []), (["teacher_eval.gold.examples=5"], ["gold"]),
                             (["teacher_eval.gold.examples=0", "teacher_eval.judge.model.name=random-tiny"],
                              ["judge"])):
        assert wanted_parts(load_config(ci, overrides).teacher_eval) == parts
    with pytest.raises(InputError, match="marks the teacher's analyses"):
        load_config(ci, ["teacher_eval.judge.model.name=random-tiny", "prompts.knowdist.analyze=false"])
    here = tmp_path / "mine.yaml"
    here.write_text(yaml.safe_dump({**yaml.safe_load(ci.read_text()), "teacher_eval": {"judge": {
        "model": {"name": "./judge"}}}}))
    assert load_config(here).teacher_eval.judge.model.name == str(tmp_path / "judge")


def test_a_judge_behind_an_endpoint_is_asked_for_by_its_name() -> None:
    served = "{model: {name: org/judge}, engine: {kind: openai, base_urls: 'http://host:8000/v1'}}"
    judge = load_config(ROOT / "flows/configs/ci.yaml", [f"teacher_eval.judge={served}"]).teacher_eval.judge
    assert judge is not None and judge.engine.model == "org/judge"


@pytest.fixture
def measured() -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys ``quality`` and ``config`` of a results.json in which everything was measured."""
    config = load_config(ROOT / "flows/configs/ci.yaml", ["teacher_eval.judge.model.name='<b>judge'"]).to_json()
    rows = [one for name in PERSPECTIVES[:4] for one in verdicts(
        name, output(verdict_of(5, 4, 3, 2, 1)), output(verdict_of(4, 4, 4, 4, 4)), output("no"))]
    gold = {"sentiment": {"metric": "accuracy", "value": 0.9, "interval_95": (0.78, 0.96), "n": 50, "unreadable": 1,
                          "failed": 2},
            "emotion": {"metric": "micro_f1", "value": 0.8, "interval_95": (0.7, 0.9), "macro_f1": 0.75,
                        "macro_interval_95": (0.65, 0.85), "n": 50, "unreadable": 0, "failed": 0}}
    return {"gold": gold, "judge": score_verdicts(rows, PERSPECTIVES, 42)}, config


def test_the_papers_figures_stand_beside_ours(measured: Any) -> None:
    gold, judge = teacher_eval_tables(*measured)
    assert [cells[1:] for _, cells in gold.rows] == [
        ["90.00", "78.0–96.0", "50", "3", "92.00", "84.00"], ["80.00", "70.0–90.0", "50", "0", "82.90", "75.49"],
        ["75.00", "65.0–85.0", "50", "0", "–", "–"]]
    paper = [cells[2:7] for kind, cells in judge.rows if kind == "paper"]
    assert paper == [[f"{value:.2f}" for value in values] for values in paper_table(22).rows.values()]
    ours = [cells for kind, cells in judge.rows if kind == "ours"]
    assert [cells[0] for cells in ours] == ["Expression", "Target", "Emotion", "Background"]
    assert {tuple(cells[2:]) for cells in ours} == {("4.50", "4.00", "3.50", "3.00", "2.50", "2/3")}
    intervals = [cells[2:] for kind, cells in judge.rows if kind == "interval"]
    assert intervals == [["4.0–5.0", "–", "3.0–4.0", "2.0–4.0", "1.0–4.0", ""]] * 4
    assert "4 of them" in judge.about and "the teacher itself" not in judge.about
    quality, config = measured
    config["teacher_eval"]["judge"]["model"]["name"] = config["teacher"]["model"]["name"]
    assert "the teacher itself" in teacher_eval_tables(quality, config)[1].about
    assert teacher_eval_tables({"gold": None, "judge": None}, config) == []


def test_the_tables_fit_a_terminal_of_80_columns(measured: Any) -> None:
    tables = teacher_eval_tables(*measured)
    assert len(tables) == 2
    for table in tables:
        console = Console(width=80, record=True, file=io.StringIO())
        console.print(printed(table))
        text = console.export_text()
        assert "…" not in text and max(map(len, text.splitlines())) <= 80
        assert all(cell in text for _, cells in table.rows for cell in cells[table.text_columns:])


def test_the_command_without_anything_to_ask_is_bad_input(tmp_path: Path) -> None:
    config = load_config(ROOT / "flows/configs/ci.yaml", ["teacher_eval.gold.examples=0"])
    with pytest.raises(InputError, match=r"teacher_eval\.gold\.examples is 0 and teacher_eval\.judge is null"):
        asked_parts(Run(config, tmp_path))
