"""One model evaluated on tasks and seeds: what is there already is kept, the rest is asked in one process."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from distill.config.schema import TeacherEngine
from distill.engines import identity
from distill.engines.client import Client
from distill.engines.transformers.penalty import shipped_penalty
from distill.models.weights import Weights
from distill.run.storage import read_json, run_lock
from sentibench.answering import Classify, Method
from sentibench.protocols import Protocol
from sentibench.runner import Job, check_folder, manifest, plan, run_jobs
from sentibench.scoring import Reading


class Evaluation(BaseModel):
    """What is evaluated and how. ``model_folder``: None behind an endpoint, which has the weights.

    ``alone``: results of another making in ``out_dir`` are refused. ``beside``: folders with results of the same model,
    maybe, of which those that would come out the same are copied.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    name: str
    model_folder: Path | None
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
    out_dir: Path
    alone: bool = False
    beside: list[Path] = []

    def method(self) -> Method:
        """Return how the model is asked, with what the protocol takes from the model's folder.

        Raises:
            InputError: the folder's settings cannot be used.
        """
        method = Method(self.classify, self.max_tokens, self.structured, self.reading,
                        penalised=self.protocol == "released")
        if self.model_folder is None:  # the endpoint has the settings
            return replace(method, penalty=None)
        settings = self.model_folder / "tokenizer_config.json"
        cleaned = read_json(settings).get("clean_up_tokenization_spaces", True) if settings.is_file() else True
        return replace(method, penalty=shipped_penalty(self.model_folder), cleaned=bool(cleaned))

    def jobs(self, engine: dict[str, Any] | None = None) -> list[Job]:
        """Return the jobs, one for each task and seed; ``engine`` in place of the engine's identity.

        Raises:
            InputError: as :func:`sentibench.runner.plan`.
        """
        return plan(self.tasks, self.data_dir, self.protocol, self.seeds, self.limit, self.model_id,
                    identity(self.engine) if engine is None else engine, self.out_dir, self.method())

    def run(self, log: Path) -> list[dict[str, Any]]:
        """Evaluate, and return the results, one for each task and seed, without predictions.

        The model is not loaded, and no device waited for, when every result is there already. All are of one number
        format: those of another, which the devices do not compute in, are made anew. Tracebacks go to ``log``.

        Raises:
            InputError: another process evaluates into the same folder.
            InputError, RunError: as :func:`sentibench.runner.plan` and :func:`distill.engines.open_engine`.
        """
        jobs = self.jobs()
        if self.alone:
            check_folder(self.out_dir, jobs)
        for job in jobs:
            job.copy_from(self.beside)
        dtypes = {job.path: (manifest(job.path).get("computed") or {}).get("dtype") for job in jobs if job.finished()}
        known = [dtype for dtype in dtypes.values() if dtype]
        if len(dtypes) < len(jobs) or len(set(known)) > 1:
            client = Client(Weights(self.model_folder, self.model_id), self.engine,
                            processed_scores=jobs[0].method.penalty not in (None, 1))
            with run_lock(self.out_dir), client.opened(log, known[0] if known else None) as engine:
                # What these devices do not compute in is made anew: two number formats are never one table.
                good = (None, engine.computed.get("dtype"))
                run_jobs(engine, self.name, [job for job in jobs if dtypes.get(job.path, "none") not in good],
                         engine.computed)
        return [manifest(job.path) for job in jobs]
