"""Evaluating: result files, what makes them stale, invalid answers, models with the same weights, averages."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import stdev

import pytest

from distill import engines
from distill.config.schema import Evaluate, TransformersEngine, VllmEngine
from distill.engines.base import LabelScores, Output, Request
from distill.errors import InputError, RunError
from distill.run.folder import claim
from distill.run.response_cache import ResponseCache
from distill.run.storage import read_json
from distill.runtime import devices
from flows import evaluation as stage
from sentibench.answering import Method, read
from sentibench.cli import main
from sentibench.evaluation import Evaluation
from sentibench.registry import get_task
from sentibench.runner import check_folder, manifest, plan, run_jobs
from sentibench.scoring import Answer
from sentibench.summary import averages, load_model_results, load_results
from tests.support.device import gpus_of
from tests.support.engine import asked_here

DATA = "shipped:data/sentibench"


class HashEngine:
    """A deterministic stand-in for a model: labels by hash of the prompt, tuples as ``answer`` says."""

    name = "hash"

    def __init__(self, answer: str = " [('NULL', 'positive')]", too_long: Sequence[str] = ()) -> None:
        self.answer, self.too_long = answer, too_long
        self.asked: list[Request] = []

    def generate(self, requests, done):
        self.asked += requests
        outputs = []
        for request in requests:
            if request.id in self.too_long:
                outputs.append(Output(request.id, "", "error", 9999, 0, "prompt_too_long"))
            else:
                outputs.append(Output(request.id, self.answer, "stop", 10, 10))
            done(outputs[-1:])
        return outputs

    def score_labels(self, requests, labels, done):
        self.asked += requests
        found = [LabelScores(request.id, () if request.id in self.too_long else tuple(
            -hashlib.sha256(f"{request.prompt}{label}".encode()).digest()[0] / 10 for label in names),
            10, "first_token", "prompt_too_long" if request.id in self.too_long else "")
            for request, names in zip(requests, labels, strict=True)]
        done(found[::-1])
        return found

    def count_tokens(self, prompts, chat=False):
        return [len(prompt.split()) for prompt in prompts]

    def close(self):
        return None


def evaluate(engine: HashEngine, out: Path, tasks="sst2,atsa", seeds=(42,), model="m1", protocol="released", limit=4):
    jobs = plan(tasks, DATA, protocol, seeds, limit, model, {"kind": engine.name}, out)
    run_jobs(engine, "student", [job for job in jobs if not job.finished()])
    return [manifest(job.path) for job in jobs]


def test_a_result_explains_itself(tmp_path: Path) -> None:
    evaluate(HashEngine(), tmp_path)
    result = read_json(tmp_path / "sst2.seed42.json")
    assert result["model"] == {"name": "student", "fingerprint": "m1"}
    assert (result["protocol"], result["seed"], result["n"], result["metric"]) == ("released", 42, 4, "macro_f1")
    assert len(result["prompts_sha256"]) == 64 and result["demonstrations_from"] == "train"
    low, high = result["interval_95"]
    assert 0 <= low <= result["value"] <= high <= 1
    rows = result["predictions"]
    assert [row["index"] for row in rows] == [0, 1, 2, 3]
    assert all(row["correct"] == (row["gold"] == row["prediction"]) for row in rows)


def test_labels_are_scored_with_their_leading_space_and_the_likeliest_wins(tmp_path: Path) -> None:
    class Spy(HashEngine):
        def score_labels(self, requests, labels, done):
            assert {tuple(names) for names in labels} == {(" negative", " positive")}
            done([LabelScores(r.id, (-2.0, -1.0), 1, "full_likelihood") for r in requests])

    evaluate(Spy(), tmp_path, "sst2")
    rows = read_json(tmp_path / "sst2.seed42.json")["predictions"]
    assert {row["prediction"] for row in rows} == {"positive"}
    assert {row["rule"] for row in rows} == {"full_likelihood"}


def test_finished_results_are_reused_and_changed_ones_made_again(tmp_path: Path) -> None:
    evaluate(HashEngine(), tmp_path)
    for change, n_asked in (({}, 0), ({"seeds": (42, 52)}, 8), ({"model": "m2"}, 8), ({"limit": 3, "model": "m2"}, 0),
                            ({"protocol": "paper", "model": "m2", "limit": 3}, 6)):
        engine = HashEngine()
        evaluate(engine, tmp_path, **change)
        assert len(engine.asked) == n_asked, change


def test_a_torn_result_is_made_again_from_the_answers_kept(tmp_path: Path) -> None:
    evaluate(HashEngine(), tmp_path)
    whole = (tmp_path / "sst2.seed42.json").read_text()
    (tmp_path / "sst2.seed42.json").write_text(whole[: len(whole) // 2])
    engine = HashEngine()
    results = evaluate(engine, tmp_path)
    assert not engine.asked
    assert read_json(tmp_path / "sst2.seed42.json")["predictions"] == json.loads(whole)["predictions"]
    assert [result["task"] for result in results] == ["sst2", "atsa"]


def test_a_crash_between_tasks_loses_only_the_unfinished_one(tmp_path: Path) -> None:
    class Dies(HashEngine):
        def generate(self, requests, done):
            raise MemoryError

    with pytest.raises(MemoryError):
        evaluate(Dies(), tmp_path)
    assert [path.name for path in tmp_path.glob("*.json")] == ["sst2.seed42.json"]
    jobs = plan("sst2,atsa", DATA, "released", [42], 4, "m1", {"kind": "hash"}, tmp_path)
    assert [job.finished() for job in jobs] == [True, False]
    run_jobs(HashEngine(), "student", [job for job in jobs if not job.finished()])
    assert all(job.finished() for job in jobs)


def test_after_a_crash_no_example_is_asked_twice(tmp_path: Path) -> None:
    class Dies(HashEngine):
        def score_labels(self, requests, labels, done):
            super().score_labels(requests[:5], labels[:5], done)
            raise MemoryError

    with pytest.raises(MemoryError):
        evaluate(Dies(), tmp_path, "sst2", seeds=(42, 52))
    kept = tmp_path / "answers/sst2.jsonl"
    assert len(kept.read_text().splitlines()) == 5
    kept.write_bytes(kept.read_bytes()[:-9])  # and the crash cut the last line short
    engine = HashEngine()
    results = evaluate(engine, tmp_path, "sst2", seeds=(42, 52))
    assert len(engine.asked) == 4 and len({request.prompt for request in engine.asked}) == 4
    assert [result["n_asked"] for result in results] == [1, 3]
    whole = evaluate(HashEngine(), tmp_path / "whole", "sst2", seeds=(42, 52))
    assert [result["value"] for result in results] == [result["value"] for result in whole]
    assert len(kept.read_text().splitlines()) == 9  # the torn line stays, unread


def test_what_could_not_be_asked_is_tried_again_and_what_is_no_number_is_no_label(tmp_path: Path) -> None:
    evaluate(HashEngine(too_long=("1",)), tmp_path, "sst2")
    (tmp_path / "sst2.seed42.json").unlink()
    engine = HashEngine()
    assert evaluate(engine, tmp_path, "sst2")[0]["invalid"] == {} and len(engine.asked) == 1
    assert read(get_task("sst2"), {"scores": [float("nan"), -1.0]}) == Answer(None, "not_a_number")


def test_an_engine_that_forgets_a_prompt_is_found_out(tmp_path: Path) -> None:
    class Forgets(HashEngine):
        def score_labels(self, requests, labels, done):
            super().score_labels(requests[:-1], labels[:-1], done)

    with pytest.raises(RunError, match="returned no answer to 1 of 4 prompts of sst2"):
        evaluate(Forgets(), tmp_path, "sst2")


@pytest.mark.parametrize(("change", "said"), [
    ({"model": "m2"}, "another model"), ({"protocol": "paper"}, "another protocol"),
    ({"tasks": "atsa", "limit": 3}, "another limit"), ({"tasks": "atsa", "limit": 3, "model": "m2"}, "model and limit"),
])
def test_results_that_do_not_belong_together_are_kept_apart(tmp_path: Path, change: dict, said: str) -> None:
    evaluate(HashEngine(), tmp_path, "sst2")
    settings = {"tasks": "sst2", "protocol": "released", "limit": 4, "model": "m1", **change}
    jobs = plan(settings["tasks"], DATA, settings["protocol"], [42], settings["limit"], settings["model"], {}, tmp_path)
    with pytest.raises(InputError, match=said):
        check_folder(tmp_path, jobs)
    same = plan("sst2", DATA, "released", [42, 52], 3, "m1", {}, tmp_path)
    check_folder(tmp_path, same)  # the same prompts are asked for more of, or fewer


@pytest.mark.parametrize("begun_on", ["V100", "A100"])
def test_an_evaluation_that_goes_on_elsewhere_is_of_one_number_format(
        begun_on: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = HashEngine()
    asked_here(monkeypatch)
    monkeypatch.setattr(engines, "open_engine", lambda config, folder, **_: contextlib.nullcontext(engine))
    spec = {"name": "student", "model_folder": str(tiny_model), "model_id": "m", "engine": {"kind": "transformers"},
            "data_dir": DATA, "protocol": "released", "seeds": [42], "limit": 2, "out_dir": str(tmp_path / "student")}

    def formats(gpus: str, *tasks: str) -> set[str]:
        monkeypatch.setattr(devices, "installed", lambda: gpus_of(gpus) if gpus else ())
        return {one["computed"]["dtype"] for one in Evaluation(**spec, tasks=list(tasks)).run(tmp_path / "log")}

    gpu = formats(begun_on, "sst2")
    on_processor = formats("", "sst2", "imdb")
    assert len(gpu) == len(on_processor) == 1 and gpu <= {"float16", "bfloat16"}
    assert on_processor == (gpu if devices.computes(*gpu, ()) else {"float32"})
    assert set(load_model_results(tmp_path / "student")) == {"sst2", "imdb"}
    asked = len(engine.asked)
    assert formats("", "sst2", "imdb") == on_processor and len(engine.asked) == asked


@pytest.mark.parametrize("how", [(), ("--classify", "score"), ("--classify", "generate"),
                                 ("--classify", "generate", "--max-tokens", "5", "--reading", "paper")])
def test_the_same_command_again_asks_nothing(
        how: tuple[str, ...], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = HashEngine(" positive")
    asked_here(monkeypatch)
    monkeypatch.setattr(engines, "open_engine", lambda config, folder, **_: contextlib.nullcontext(engine))
    command = ["run", "--model", str(tiny_model), "--tasks", "sst2,ssa", "--data-dir", DATA, "--limit", "2",
               "--seeds", "42", "--out", str(tmp_path), *how]
    assert main(command) == 0 and len(engine.asked) == 4
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.seed42.json")}
    assert main(command) == 0 and len(engine.asked) == 4
    assert made == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.seed42.json")}
    other = ("--classify", "score") if "generate" in how else ("--classify", "generate")
    assert main([*command, *other]) == 2


def test_memory_settings_are_no_part_of_what_decides_an_answer() -> None:
    small, large = (engines.identity(TransformersEngine(batch_tokens=tokens)) for tokens in (64, 4096))
    assert small == large and small["dtype"] == "auto"
    exact, coarse = (engines.identity(TransformersEngine(dtype=dtype)) for dtype in ("float32", "bfloat16"))
    assert exact != coarse
    assert engines.identity(VllmEngine(kind="vllm", max_num_seqs=1)) == engines.identity(VllmEngine(kind="vllm"))
    assert engines.identity(VllmEngine(kind="vllm")) != small


def test_more_examples_ask_only_for_those(tmp_path: Path) -> None:
    evaluate(HashEngine(), tmp_path, "sst2,atsa", limit=4)
    engine = HashEngine()
    evaluate(engine, tmp_path, "sst2,atsa", limit=6)
    assert len(engine.asked) == 4


def test_an_answer_is_never_taken_for_that_of_another_model_engine_decoding_or_prompt(tmp_path: Path) -> None:
    base = {"model": "m", "engine": {"kind": "hash"}, "decoding": {"max_tokens": 3}}
    keys = [ResponseCache(tmp_path / "a.jsonl", **{**base, **change}).key(prompt) for change, prompt in (
        ({}, "p"), ({"model": "n"}, "p"), ({"engine": {"kind": "other"}}, "p"), ({"decoding": {"max_tokens": 4}}, "p"),
        ({}, "q"))]
    assert len(set(keys)) == len(keys)
    assert keys[0] == ResponseCache(tmp_path / "elsewhere.jsonl", **base).key("p")


@pytest.mark.parametrize("written", [
    " negative", "<think>a positive one? No.\nIt is not.</think>\n\nNegative.\npositive"])
def test_labels_can_be_written_instead_of_scored_and_reasoning_is_no_answer(tmp_path: Path, written: str) -> None:
    engine = HashEngine(written)
    jobs = plan("sst2", DATA, "released", [42], 4, "m", {"kind": "hash"}, tmp_path, Method("generate", 500))
    run_jobs(engine, "student", jobs)
    assert {(r.sampling.max_tokens, r.sampling.temperature, r.sampling.first_line) for r in engine.asked} == {
        (500, 0.0, True)}
    result = read_json(tmp_path / "sst2.seed42.json")
    assert {row["prediction"] for row in result["predictions"]} == {"negative"}
    assert result["decoding"]["answers"] == "generated"
    scored = plan("sst2", DATA, "released", [42], 4, "m", {"kind": "hash"}, tmp_path)
    assert not scored[0].finished()


def test_what_cannot_be_read_or_asked_is_counted_and_scored_as_wrong(tmp_path: Path) -> None:
    label, tuples = evaluate(HashEngine("I am not sure", too_long=("1",)), tmp_path)
    assert label["invalid"] == {"prompt_too_long": 1} and label["invalid_rate"] == 0.25
    assert tuples["invalid"] == {"prompt_too_long": 1, "unreadable_answer": 3}
    assert tuples["value"] == 0 and tuples["n"] == 4


@pytest.mark.parametrize("text", [" [('x', 'positive')]\n\nSentence: y\nLabel: []", "\n\n[('x', 'positive')]\n[]"])
def test_the_first_line_that_is_not_blank_is_the_answer(text: str, tmp_path: Path) -> None:
    evaluate(HashEngine(text), tmp_path, "atsa")
    rows = read_json(tmp_path / "atsa.seed42.json")["predictions"]
    assert all(row["raw"] == "[('x', 'positive')]" for row in rows)


def test_averages_never_count_a_missing_task_as_0() -> None:
    found = averages({"imdb": 0.9, "sst2": 0.7, "ssa": 0.1})
    assert found["BSA"].value == pytest.approx(0.8)
    assert found["BSA"].missing == ("yelp2", "twitter17")
    assert found["MSA"].value is None and len(found["MSA"].missing) == 4
    assert found["seen"].value == pytest.approx(0.8) and found["unseen"].value == pytest.approx(0.1)
    assert found["all"].value == pytest.approx(1.7 / 3) and len(found["all"].missing) == 9


def test_scores_are_means_over_seeds(tmp_path: Path) -> None:
    results = evaluate(HashEngine(), tmp_path, "sst2", seeds=(42, 52, 62))
    score = load_model_results(tmp_path)["sst2"]
    assert score.value == pytest.approx(sum(result["value"] for result in results) / 3)
    assert list(score.by_seed) == [42, 52, 62]
    assert score.spread == pytest.approx(stdev(result["value"] for result in results)) and score.spread > 0


def test_results_of_two_protocols_are_not_averaged(tmp_path: Path) -> None:
    evaluate(HashEngine(), tmp_path, "sst2")
    evaluate(HashEngine(), tmp_path, "irony18", protocol="paper")
    with pytest.raises(InputError, match="mixes results of the protocols paper and released"):
        load_model_results(tmp_path)
    with pytest.raises(InputError, match="holds no results"):
        load_model_results(tmp_path / "empty")


def test_compare_shows_what_was_not_run(tmp_path: Path, capsys) -> None:
    for folder, tasks in (("a", "sst2,atsa"), ("b", "sst2")):
        evaluate(HashEngine(), tmp_path / folder, tasks)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    printed = capsys.readouterr().out
    assert "† b was not run on imdb, yelp2, twitter17" in printed and "–" in printed


def _config(**changes) -> Evaluate:
    return Evaluate.model_validate({"data_dir": DATA, "tasks": ["sst2", "atsa"], "seeds": [42], "limit": 3, **changes})


def _fake_processes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    called: list[str] = []

    class Noted(Evaluation):
        def run(self, log: Path) -> list[dict]:
            called.append(self.name)
            return super().run(log)

    monkeypatch.setattr(engines, "open_engine", lambda config, folder: contextlib.nullcontext(HashEngine()))
    asked_here(monkeypatch)
    monkeypatch.setattr(stage, "Evaluation", Noted)
    monkeypatch.setattr(stage, "model_fingerprint", lambda folder: folder.name)
    return called


def test_models_with_the_same_weights_are_evaluated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = _fake_processes(monkeypatch)
    models = {"base": Path("small"), "distilled": Path("better"), "teacher": Path("elsewhere/small")}
    outcome = stage.evaluate_models(_config(), models, tmp_path)
    assert called == ["base", "distilled"]
    copy = read_json(tmp_path / "sentibench/teacher/sst2.seed42.json")
    assert copy["same_weights_as"] == "base" and copy["model"]["name"] == "teacher"
    assert list(load_results(tmp_path / "sentibench")) == ["base", "distilled", "teacher"]
    assert [counts.stage for counts in outcome.row_counts] == [
        "sentibench/base", "sentibench/distilled", "sentibench/teacher"]
    assert all(counts.n_in == 6 == counts.n_out + counts.dropped.total() for counts in outcome.row_counts)
    assert set(load_results(tmp_path / "sentibench")["base"]) == {"sst2", "atsa"}
    assert json.loads(json.dumps(outcome.details)) == outcome.details


def test_an_evaluation_is_done_once_and_notices_other_weights(tmp_path: Path, monkeypatch) -> None:
    called = _fake_processes(monkeypatch)
    stage.evaluate_models(_config(), {"base": Path("a")}, tmp_path)
    assert stage.evaluate_models(_config(), {"base": Path("a")}, tmp_path).reused and called == ["base"]
    with pytest.raises(InputError, match=r"models\.base: 'a' then, 'b' now"):
        stage.evaluate_models(_config(), {"base": Path("b")}, tmp_path)
    assert not stage.evaluate_models(_config(), {"base": Path("b")}, tmp_path, "discard").reused


def test_what_another_evaluation_left_unfinished_is_not_in_the_table(tmp_path: Path, monkeypatch) -> None:
    _fake_processes(monkeypatch)
    claim(tmp_path)
    evaluate(HashEngine(), tmp_path / "sentibench/base", "ssa", seeds=(62,))
    stage.evaluate_models(_config(), {"base": Path("a")}, tmp_path)
    assert set(load_results(tmp_path / "sentibench")["base"]) == {"sst2", "atsa"}


def test_no_model_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No model is named"):
        stage.evaluate_models(_config(), {}, tmp_path)


def test_a_real_engine_evaluates_in_a_process_of_its_own(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # a model this small only loses by more
    outcome = stage.evaluate_models(_config(), {"base": tiny_model, "teacher": tiny_model}, tmp_path)
    assert outcome.row_counts[0].n_in == 6
    assert read_json(tmp_path / "sentibench/teacher/atsa.seed42.json")["same_weights_as"] == "base"
