"""What runs in the process of its own: open the engine once, evaluate one model on all tasks and seeds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from distill.config.schema import TeacherEngine
from distill.run.storage import read_json
from sentibench.answering import Classify, Method
from sentibench.protocols import Protocol
from sentibench.registry import select_tasks
from sentibench.runner import Job, plan, result_name
from sentibench.scoring import Reading


class Spec(BaseModel):
    """One model's evaluation, as JSON values. ``alone``: results of another making in ``out_dir`` are refused."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    name: str
    model_folder: str
    model_id: str
    engine: TeacherEngine
    tasks: list[str] | str
    data_dir: str
    protocol: Protocol
    seeds: list[int]
    limit: int | None
    classify: Classify = "score"
    max_tokens: int | None = None
    structured: bool = False
    reading: Reading | None = None
    out_dir: str
    alone: bool = False


def method_of(asked: Spec) -> Method:
    """Return how a model is asked, with what the protocol takes from the model's folder.

    Raises:
        InputError: the folder's settings cannot be used.
    """
    from distill.engines.transformers.penalty import shipped_penalty

    method = Method(asked.classify, asked.max_tokens, asked.structured, asked.reading,
                    penalised=asked.protocol == "released")
    if not asked.model_folder:  # behind an endpoint, which has the settings
        return replace(method, penalty=None)
    folder = Path(asked.model_folder)
    settings = folder / "tokenizer_config.json"
    cleaned = read_json(settings).get("clean_up_tokenization_spaces", True) if settings.is_file() else True
    return replace(method, penalty=shipped_penalty(folder), cleaned=bool(cleaned))


def devices_needed(spec: dict[str, Any]) -> int:
    """Return how many GPUs :func:`evaluate` takes: none where all results are there. Raises as it does."""
    from distill.engines import devices_of_engine

    asked = Spec.model_validate(spec)
    needed = devices_of_engine(asked.engine)
    there = all((Path(asked.out_dir) / result_name(task.name, seed)).is_file()
                for task in select_tasks(asked.tasks) for seed in asked.seeds)
    if needed and there and all(job.finished() for job in _jobs(asked, method_of(asked))):
        return 0
    return needed


def _jobs(asked: Spec, method: Method) -> list[Job]:
    from distill.engines import identity

    return plan(asked.tasks, asked.data_dir, asked.protocol, asked.seeds, asked.limit, asked.model_id,
                identity(asked.engine), Path(asked.out_dir), method)


def evaluate(spec: dict[str, Any]) -> dict[str, Any]:
    """Evaluate one model and return ``{"results": [...]}``, one entry a task and seed, without predictions.

    The model is not loaded when every result is there already. All are of one number format: those of another, which
    this process's devices do not compute in, are made anew.

    Raises:
        InputError: another process evaluates into the same folder.
        InputError, RunError: as :func:`sentibench.runner.plan` and :func:`distill.engines.open_engine`.
    """
    from distill.engines import computed, open_engine, settled
    from distill.run.storage import run_lock
    from sentibench.runner import check_folder, manifest, run_jobs

    asked = Spec.model_validate(spec)
    method = method_of(asked)
    jobs = _jobs(asked, method)
    if asked.alone:
        check_folder(Path(asked.out_dir), jobs)
    dtypes = {job.path: (manifest(job.path).get("computed") or {}).get("dtype") for job in jobs if job.finished()}
    known = [dtype for dtype in dtypes.values() if dtype]
    if len(dtypes) < len(jobs) or len(set(known)) > 1:
        processed = {"processed_scores": True} if method.penalty not in (None, 1) else {}
        config = settled(asked.engine, known[0] if known else None)
        # What these devices do not compute in is made anew: results of two number formats are never one table.
        good = (None, computed(config).get("dtype"))
        pending = [job for job in jobs if job.path not in dtypes or dtypes[job.path] not in good]
        with run_lock(Path(asked.out_dir)), open_engine(config, Path(asked.model_folder), **processed) as engine:
            run_jobs(engine, asked.name, pending, computed(config))
    return {"results": [manifest(job.path) for job in jobs]}
