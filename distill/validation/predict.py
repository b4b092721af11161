"""How held-out rows are put to a model: greedily, and its losses on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.config.schema import EngineConfig
from distill.config.sections.base import semantic_fields
from distill.engines.base import Request, Sampling
from distill.engines.client import Client
from distill.models.folder import model_fingerprint
from distill.models.tokenization import VERSION as TOKENIZATION
from distill.models.weights import Weights
from distill.run.hashing import fingerprint
from distill.run.markers import ANSWERS
from distill.run.records import TrainingRow
from distill.validation.measure import loss_of, measure
from distill.validation.tuples import TupleQuestion, measure_tuples


@dataclass(frozen=True)
class Predictor:
    """``chat``: in the form of the student's chat template; ``max_tokens``: of an answer, by the prompt's family."""

    engine: EngineConfig
    chat: bool
    max_tokens: Mapping[str, int]

    def inputs(self, rows: Sequence[TrainingRow]) -> dict[str, Any]:
        """Return what decides the answers to ``rows``, and what is measured of them, beside the model.

        The teacher's answers are part of that: of the same prompts, another one's may be others.
        """
        taught = fingerprint([[row.completion, row.labels] for row in rows])
        return {"rows": [row.id for row in rows], "taught": taught, "chat": self.chat,
                "engine": semantic_fields(self.engine), "tokenization": TOKENIZATION,
                "max_tokens": dict(self.max_tokens)}

    def predict(self, model: Path, rows: Sequence[TrainingRow], tuples: Mapping[str, TupleQuestion], log: Path
                ) -> dict[str, Any]:
        """Return one model's ``answers``, their measures (``measured``), and what they were ``computed`` with.

        ``tuples``: by id, what the rows ask for that ask for tuples.

        How likely the teacher's label was, is asked beside the answer, behind the same pass over the prompt.
        Tracebacks go to ``log``. Answers are kept beside it as they come, until the stage is finished, so that none is
        asked for twice.

        Raises:
            InputError, RunError: the model cannot be loaded, or its process died.
        """
        requests = [Request(row.id, row.prompt, Sampling(max_tokens=self.max_tokens[row.family]), chat=self.chat,
                            labels=(row.completion,) if row.labels else ()) for row in rows]
        client = Client(Weights(model, model_fingerprint(model)), self.engine)
        outputs, computed = client.generate(requests, log, log.parent / ANSWERS / f"{log.stem}.jsonl")
        losses = [loss_of(output) for output in outputs]
        return {
            "measured": {**measure(rows, outputs), **measure_tuples(rows, outputs, tuples)},
            "computed": computed,
            "answers": [{"id": row.id, "family": row.family, "kind": row.kind, "prompt": row.prompt,
                         "teacher": row.completion, "answer": output.text, "finish_reason": output.finish_reason,
                         "loss": None if loss is None else round(loss, 4)}
                        for row, output, loss in zip(rows, outputs, losses, strict=True)]}
