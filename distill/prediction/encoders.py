"""Encoder students, which have labels of their own."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.prediction.student import Predict, Prediction

TEXT_CUT = "text_cut"
"""The problem of a text of which the model read only the beginning."""


@contextlib.contextmanager
def open_encoder(spec: Mapping[str, Any]) -> Iterator[Predict]:
    """Load the classifier in the folder ``spec["folder"]``. Raises as :func:`distill.encoder.predict.load`."""
    from distill.encoder import predict

    loaded = predict.load(Path(spec["folder"]))

    def ask(texts: Sequence[str]) -> list[Prediction]:
        answer = predict.answer_texts(loaded, texts)
        cut = set(answer["places_cut"])
        return [Prediction(label, max(shares), dict(zip(answer["names"], shares, strict=True)),
                           problem=TEXT_CUT if place in cut else "")
                for place, (label, shares) in enumerate(zip(answer["labels"], answer["probabilities"], strict=True))]

    yield ask
