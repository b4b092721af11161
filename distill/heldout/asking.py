"""How held-out rows are put to a model: greedily, by an engine in a process of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill.config.schema import EngineConfig
from distill.config.sections.base import decisive
from distill.heldout.rows import HeldOutRow
from distill.process import call_in_process
from distill.tokenization import VERSION as TOKENIZATION


@dataclass(frozen=True)
class Asking:
    """``chat``: in the form of the student's chat template; ``max_tokens``: of an answer, by the prompt's family."""

    engine: EngineConfig
    chat: bool
    max_tokens: Mapping[str, int]

    def inputs(self, rows: Sequence[HeldOutRow]) -> dict[str, Any]:
        """Return what decides the answers to ``rows``, beside the model."""
        return {"rows": [row.id for row in rows], "chat": self.chat, "engine": decisive(self.engine),
                "tokenization": TOKENIZATION,
                "max_tokens": dict(self.max_tokens)}

    def answers(self, model: Path, rows: Sequence[HeldOutRow], log: Path) -> dict[str, Any]:
        """Return what :func:`distill.heldout.worker.answer` returns; a traceback goes to ``log``.

        Raises:
            InputError, RunError: the model cannot be loaded, or its process died.
        """
        return call_in_process("distill.heldout.worker:answer", {
            "model": str(model), "engine": self.engine.model_dump(mode="json"), "chat": self.chat,
            "max_tokens": dict(self.max_tokens), "rows": [asdict(row) for row in rows]}, log)
