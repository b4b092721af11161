"""A model and how it is asked: in a process of its own, all prompts at once."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from distill.config.schema import SamplingConfig, TeacherEngine
from distill.config.sections.base import semantic_fields
from distill.engines import computed, devices_of_engine, open_engine, settled
from distill.engines.base import Output, Request, Sampling
from distill.models.tokenization import VERSION as TOKENIZATION
from distill.models.weights import Weights
from distill.runtime.leases import leased
from distill.runtime.process import call_in_process


@dataclass(frozen=True)
class Question:
    """One prompt, the engine's seed for it, and what the answer is held to (:class:`distill.engines.base.Request`)."""

    id: str
    prompt: str
    seed: int = 0
    choices: tuple[str, ...] = ()
    pattern: str = ""


@dataclass(frozen=True)
class Respondent:
    """A model and how it is asked; ``chat``: in a turn of a chat."""

    weights: Weights
    engine: TeacherEngine
    sampling: SamplingConfig
    chat: bool

    def to_json(self) -> dict[str, Any]:
        """Return what decides the answers, as JSON values."""
        return {"model": self.weights.identity, "engine": semantic_fields(self.engine),
                "sampling": self.sampling.model_dump(mode="json"), "chat": self.chat,
                "tokenization": TOKENIZATION}

    def answers(self, questions: Sequence[Question], log: Path) -> tuple[list[Output], dict[str, str]]:
        """Return the answers in the order of the questions, and what they were computed with; tracebacks go to ``log``.

        Raises:
            InputError, RunError: as :func:`distill.engines.open_engine`.
            ProcessDiedError: the process was killed or crashed.
        """
        folder = self.weights.folder
        spec = {"folder": str(folder) if folder else None, "engine": self.engine.model_dump(mode="json"),
                "sampling": self.sampling.model_dump(mode="json"), "chat": self.chat,
                "questions": [asdict(question) for question in questions]}
        with leased(devices_of_engine(self.engine)):
            found = call_in_process("distill.teacher_eval.respondent:answer", spec, log)
        return [Output(**output) for output in found["outputs"]], found["computed"]


def answer(spec: dict[str, Any]) -> dict[str, Any]:
    """Do the work of :meth:`Respondent.answers` in the process that holds the model; texts are such as Parquet holds.

    Raises:
        InputError, RunError: as :func:`distill.engines.open_engine`.
    """
    sampling = Sampling(**{**spec["sampling"], "stop": tuple(spec["sampling"]["stop"])})
    requests = [Request(item["id"], item["prompt"], sampling, spec["chat"], item["seed"], tuple(item["choices"]),
                        item["pattern"]) for item in spec["questions"]]
    folder = Path(spec["folder"]) if spec["folder"] else None
    config = settled(TypeAdapter(TeacherEngine).validate_python(spec["engine"]))
    with open_engine(config, folder) as engine:
        outputs = engine.generate(requests)
    return {"outputs": [{**asdict(output), "text": _writable(output.text)} for output in outputs],
            "computed": computed(config)}


def _writable(text: str) -> str:
    """Return a text with lone surrogates, which Parquet cannot hold, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
