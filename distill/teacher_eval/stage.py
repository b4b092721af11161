"""The stages ``teacher_eval/gold`` and ``teacher_eval/judge``: one model asked once; its answers and scores."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from distill.config.schema import Gold, IclDist, Judge, SamplingConfig, Teacher, TeacherEval
from distill.config.sections.base import semantic_fields
from distill.engines.base import Output, Request, Sampling
from distill.engines.client import Client
from distill.engines.grammar import structure_of
from distill.errors import InputError
from distill.generation.manifests import read_markers, responses_digest
from distill.models.tokenization import VERSION as TOKENIZATION
from distill.models.weights import Weights
from distill.parsing.labels import VERSION as PARSER_VERSION
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.kept import kept_knowdist
from distill.resources import shipped
from distill.run.hashing import file_digest, fingerprint
from distill.run.markers import ANSWERS, is_finished, require_whole
from distill.run.records import Prompt, write_records
from distill.run.row_counts import RowCounts
from distill.run.stage import OnChange, Outcome, run_stage
from distill.run.storage import read_json, write_json
from distill.teacher_eval.gold import gold_questions, read_answers, score_gold
from distill.teacher_eval.judge import choose_analyses, judged_perspectives, read_verdicts, score_verdicts
from distill.teacher_eval.records import GoldAnswer, Verdict
from distill.teacher_eval.rubric import RUBRIC, judge_prompt

FOLDER = "teacher_eval"
PARTS = ("gold", "judge")
VERSION = 2
"""Raised when questions, prompts or scores are made in another way."""
_SCORES = "scores.json"
_ANSWERS = "answers.parquet"


def wanted_parts(config: TeacherEval) -> list[str]:
    """Return which of ``PARTS`` are switched on."""
    on = {"gold": config.gold.examples > 0, "judge": config.judge is not None}
    return [part for part in PARTS if on[part]]


def check_gold(
    config: Gold, teacher: Teacher, weights: Weights, prompts: IclDist, run: Path, seed: int,
    on_change: OnChange = "stop",
) -> Outcome:
    """Ask the teacher texts whose labels are known (:func:`.gold.gold_questions`), as all the others.

    Writes into ``run/teacher_eval/gold`` what :func:`distill.teacher_eval.gold.score_gold` returns as ``scores.json``,
    and ``answers.parquet``, a :class:`.records.GoldAnswer` a prompt. The account counts answers: those
    in which a label can be read, and by reason those in which none can, which count as wrong.

    Raises:
        InputError: the pool of demonstrations, the model or the engine's settings cannot be used; or other settings
            made what is there and ``on_change`` is ``stop``.
        RunError: the process died.
    """
    questions = gold_questions(load_demonstrations(prompts), prompts, config.examples, seed)
    client, sampling, chat = Client(weights, teacher.engine), teacher.sampling.icldist, teacher.chat_template.icldist
    inputs = {"version": VERSION, "questions": fingerprint([asdict(item) for item in questions]), "seed": seed,
              "structured": teacher.structured, "reader": PARSER_VERSION, **_decides(client, sampling, chat)}

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        requests = [_request(item.prompt, teacher) for item in questions]
        outputs, computed = _answers(client, requests, folder, run / "logs" / "teacher-eval-gold.log")
        answers = read_answers(questions, outputs)
        write_records(folder / _ANSWERS, GoldAnswer, answers)
        write_json(folder / _SCORES, score_gold(questions, answers, seed))
        return [_account("gold", [item.problem for item in answers])], _details(outputs, computed)

    return run_stage(run / FOLDER / "gold", inputs, work, on_change)


def _request(prompt: Prompt, teacher: Teacher) -> Request:
    chat = teacher.chat_template.icldist
    choices, pattern = structure_of(prompt, chat) if teacher.structured else ((), "")
    return Request(prompt.id, prompt.prompt, _sampling(teacher.sampling.icldist), chat, prompt.seed, choices, pattern)


def judge_analyses(
    config: Judge, weights: Weights, run: Path, seed: int, on_change: OnChange = "stop"
) -> Outcome:
    """Have a model mark some of the teacher's analyses (:func:`distill.teacher_eval.judge.choose_analyses`).

    It is asked in a turn of a chat and decodes greedily.

    Writes into ``run/teacher_eval/judge`` what :func:`.judge.score_verdicts` returns as ``scores.json``,
    and ``answers.parquet``, a :class:`distill.teacher_eval.records.Verdict` an analysis. The account counts analyses:
    marked, and not marked by reason.

    Raises:
        InputError: there is no analysis to mark; the model or the engine's settings cannot be used; or other settings
            made what is there and ``on_change`` is ``stop``.
        RunError: the process died, or a shard of answers is damaged.
    """
    responses = run / "knowdist" / "responses"
    judge, sampling = Client(weights, config.engine), SamplingConfig(temperature=0.0, max_tokens=config.max_tokens)
    wanted, perspectives = config.responses_per_perspective, judged_perspectives(kept_knowdist(run))
    inputs = {"version": VERSION, "perspectives": perspectives, "seed": seed,
              "responses": responses_digest(read_markers(responses).values()),
              "rubric": file_digest(shipped(RUBRIC)), "responses_per_perspective": wanted,
              **_decides(judge, sampling, chat=True)}

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        analyses = choose_analyses(run / "prompts" / "knowdist.parquet", responses, perspectives, wanted, seed)
        if not analyses:
            raise InputError(f"The teacher's answers in {responses} hold no analysis that could be judged. Set "
                             "teacher_eval.judge to null, or look with 'distill status' why there are none.")
        outputs, computed = _answers(judge, [
            Request(item.prompt_id, judge_prompt(item.task, item.answer, perspectives[item.perspective]),
                    _sampling(sampling), chat=True)
            for item in analyses], folder, run / "logs" / "teacher-eval-judge.log")
        verdicts = read_verdicts(analyses, outputs)
        write_records(folder / _ANSWERS, Verdict, verdicts)
        write_json(folder / _SCORES, score_verdicts(verdicts, perspectives, seed))
        return [_account("judge", [item.problem for item in verdicts])], _details(outputs, computed)

    return run_stage(run / FOLDER / "judge", inputs, work, on_change)


def _decides(client: Client, sampling: SamplingConfig, chat: bool) -> dict[str, Any]:
    """Return what decides the answers, as JSON values."""
    return {"model": client.weights.identity, "engine": semantic_fields(client.engine),
            "sampling": sampling.model_dump(mode="json"), "chat": chat, "tokenization": TOKENIZATION}


def _sampling(config: SamplingConfig) -> Sampling:
    return Sampling(**{**config.model_dump(), "stop": tuple(config.stop)})


def _answers(client: Client, requests: Sequence[Request], folder: Path, log: Path
             ) -> tuple[list[Output], dict[str, str]]:
    outputs, computed = client.generate(requests, log, folder / ANSWERS / "kept.jsonl")
    return [replace(output, text=_writable(output.text)) for output in outputs], computed


def _writable(text: str) -> str:
    """Return a text with lone surrogates, which Parquet cannot hold, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def read_scores(run: Path) -> dict[str, Any]:
    """Return the scores of a run: ``gold`` and ``judge``, each None where that stage is not finished."""
    folders = {part: run / FOLDER / part for part in PARTS}
    found: dict[str, Any] = dict.fromkeys(PARTS)
    for part, folder in folders.items():
        if is_finished(folder):
            require_whole(folder, "distill teacher-eval")
            found[part] = read_json(folder / _SCORES)
    return found


def _account(part: str, problems: Sequence[str]) -> RowCounts:
    found = Counter(problem for problem in problems if problem)
    return RowCounts(f"teacher_eval/{part}", "examples", len(problems), len(problems) - found.total(), found)


def _details(outputs: Sequence[Output], computed: dict[str, str]) -> dict[str, Any]:
    return {"prompt_tokens": sum(output.n_prompt_tokens for output in outputs),
            "output_tokens": sum(output.n_output_tokens for output in outputs),
            **({"computed": computed} if computed else {})}
