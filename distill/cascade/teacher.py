"""The teacher of a cascade: a model and how it is asked for the label of a text."""

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic import Field
from tqdm import tqdm

from distill.config.sections.base import Section
from distill.config.sections.engines import TeacherEngine
from distill.config.sections.models import Model
from distill.engines import open_engine
from distill.engines.cached import CachedEngine
from distill.engines.client import Client
from distill.engines.encoding import NOT_A_NUMBER
from distill.errors import InputError, ProcessDiedError
from distill.models.weights import Weights, weights_of
from distill.parsing import reasoning
from distill.parsing.labels import UNREADABLE
from distill.prediction.labels import predict_labels
from distill.prediction.question import Question
from distill.prediction.student import Predict, Prediction
from distill.run.storage import lock

_FINAL = {"prompt_too_long", "content_filter", "refused", "not_encodable", "empty_prompt", NOT_A_NUMBER, UNREADABLE,
          reasoning.TRUNCATED}
"""What would be said of a text again; whatever else goes wrong may pass."""
_AT_ONCE = 256  # as often the bar moves


class Teacher(Section):
    """A model, and the prompt it is asked with. Where its engine scores labels, its label is the likeliest.

    With ``written``, or where the engine does not, it is the one that it writes, in ``max_tokens`` at most.
    """

    model: Model
    engine: TeacherEngine
    question: Question
    written: bool = False
    max_tokens: int = Field(64, ge=1)
    weights: str = ""

    @classmethod
    def of(cls, model: Model, engine: TeacherEngine, question: Question, written: bool = False, max_tokens: int = 64
           ) -> Self:
        """Return the teacher with what stands for its weights. Raises as :func:`distill.models.weights.weights_of`."""
        return cls(model=model, engine=engine, question=question, max_tokens=max_tokens,
                   written=written or not engine.capabilities.label_scores,
                   weights=weights_of(model, engine).identity)

    @property
    def name(self) -> str:
        """What people call the model."""
        return self.engine.name_of(self.model)

    def found(self) -> Weights:
        """Return its weights.

        Raises:
            InputError: they are not there, or are others than those it was.
        """
        weights = weights_of(self.model, self.engine)
        if weights.identity != self.weights:
            raise InputError(f"The cascade's teacher {self.name} has other weights now than when it was calibrated, so "
                             "that nothing is promised of it. Put the old ones back, or calibrate again: distill "
                             "cascade calibrate.")
        return weights

    def label(self, texts: Sequence[str], kept: Path, log: Path) -> list[Prediction]:
        """Return its labels of texts, each answer kept in the file ``kept`` as it comes, so that none is asked twice.

        Raises:
            InputError, RunError: as :meth:`distill.engines.client.Client.opened`.
            ProcessDiedError: some texts were not answered for a reason that may pass.
        """
        client, found = Client(self.found(), self.engine), list[Prediction]()
        with client.opened(log) as engine, lock(kept), client.cache(kept, engine.computed) as cache, tqdm(
                total=len(texts), desc="the teacher labels", unit="text", file=sys.stderr, disable=None) as bar:
            cached = CachedEngine(engine, cache)
            for start in range(0, len(texts), _AT_ONCE):
                some = texts[start:start + _AT_ONCE]
                found += predict_labels(cached, self.question, some, self.written, self.max_tokens)
                bar.update(len(some))
        if passing := Counter(one.problem for one in found if one.problem and one.problem not in _FINAL):
            raise ProcessDiedError(
                f"The teacher did not label {passing.total():,} of {len(texts):,} texts, for reasons that may pass "
                f"({', '.join(f'{count:,} {reason}' for reason, count in passing.most_common())}). The other labels "
                "are kept; the same command asks only for these.")
        return found


@contextlib.contextmanager
def open_teacher(spec: Mapping[str, Any]) -> Iterator[Predict]:
    """Load the model of a :class:`Teacher` (as JSON values). Raises as :func:`distill.engines.open_engine`."""
    teacher = Teacher.model_validate(spec)
    with open_engine(teacher.engine, teacher.found().folder) as engine:
        yield partial(predict_labels, engine, teacher.question, written=teacher.written, max_tokens=teacher.max_tokens)
