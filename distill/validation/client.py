"""How held-out rows are put to a model: greedily, by an engine in a process of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill.config.schema import EngineConfig
from distill.config.sections.base import semantic_fields
from distill.engines import devices_of_engine
from distill.models.tokenization import VERSION as TOKENIZATION
from distill.runtime.leases import leased
from distill.runtime.process import call_in_process
from distill.validation.rows import HeldOutRow
from distill.validation.worker import result


@dataclass(frozen=True)
class Asking:
    """``chat``: in the form of the student's chat template; ``max_tokens``: of an answer, by the prompt's family."""

    engine: EngineConfig
    chat: bool
    max_tokens: Mapping[str, int]

    def inputs(self, rows: Sequence[HeldOutRow]) -> dict[str, Any]:
        """Return what decides the answers to ``rows``, beside the model."""
        return {"rows": [row.id for row in rows], "chat": self.chat, "engine": semantic_fields(self.engine),
                "tokenization": TOKENIZATION,
                "max_tokens": dict(self.max_tokens)}

    def answers(self, model: Path, rows: Sequence[HeldOutRow], log: Path) -> dict[str, Any]:
        """Return what :func:`distill.validation.worker.result` returns; a traceback goes to ``log``.

        The engine answers in one process, and the losses are computed in the next: two models in one process would
        share its memory, which neither gives back for sure.

        Raises:
            InputError, RunError: the model cannot be loaded, or its process died.
        """
        spec = {"model": str(model), "engine": self.engine.model_dump(mode="json"), "chat": self.chat,
                "max_tokens": dict(self.max_tokens), "rows": [asdict(row) for row in rows]}
        with leased(devices_of_engine(self.engine)):
            answered = call_in_process("distill.validation.worker:answer", spec, log)
        with leased(1):
            losses = call_in_process("distill.validation.worker:losses",
                                     {**spec, "dtype": answered["computed"]["dtype"]}, log)
        return result(rows, answered, losses)
