"""What a trained encoder student says of texts, its folder being one of PyTorch or of ONNX."""

from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from distill.encoder.batches import Encoded, encode
from distill.encoder.data import SPLITS, read_split
from distill.encoder.embeddings import classes_of, logits_of
from distill.encoder.model import load_classifier
from distill.encoder.onnx import OnnxClassifier, is_exported
from distill.encoder.scores import confusion, scores
from distill.encoder.settings import settings_of
from distill.errors import InputError, RunError
from distill.runtime import devices
from distill.training.arguments import in_bfloat16

Loaded = tuple[Callable[[Encoded], Any], Any, dict[str, Any]]
"""What gives logits of texts, the tokenizer, and how to ask."""


def serve(spec: dict[str, Any], channel: Connection) -> dict[str, Any]:
    """Answer lists of texts as they come through the channel, until its other end is closed.

    ``spec``: ``model`` (folder). Each answer is that of :func:`answer_texts`.
    """
    from distill.training.worker import prepare_environment

    prepare_environment()
    loaded = load(Path(spec["model"]))
    while True:
        try:
            texts = channel.recv()
        except EOFError:
            return {}
        channel.send(answer_texts(loaded, texts))


def answer_texts(loaded: Loaded, texts: Sequence[str]) -> dict[str, Any]:
    """Return ``labels`` and ``probabilities`` of texts, the ``names`` of the classes, and how many texts were ``cut``.

    ``places_cut`` says which.

    As in training, blanks around a text are no part of it.

    Raises:
        RunError: the model computes no finite numbers.
    """
    import torch

    ask, tokenizer, settings = loaded
    encoded = encode(tokenizer, [text.strip() for text in texts], settings["prompt"], settings["max_length"])
    shares = torch.softmax(finite(ask(encoded)), -1)
    return {"labels": [settings["names"][label] for label in classes_of(shares)], "cut": encoded.cut,
            "places_cut": list(encoded.places_cut), "names": settings["names"],
            "probabilities": [[round(share, 4) for share in row] for row in shares.tolist()]}


def finite(logits: Any) -> Any:
    """Return logits, if they are finite numbers: of others, argmax would take the first class.

    Raises:
        RunError: some are not.
    """
    if not logits.isfinite().all():
        raise RunError("The classifier gives NaN or infinity for some texts, so it says nothing of them. Its weights "
                       "are damaged, or too large for the precision it computes in: train it anew with dtype float32.")
    return logits


def evaluate(spec: dict[str, Any]) -> dict[str, Any]:
    """Score a model on a split: ``spec`` has ``model``, ``data`` (as in a config) and ``split``."""
    from distill.config.sections.encoder import EncoderData
    from distill.training.worker import prepare_environment

    if spec["split"] not in SPLITS:
        raise InputError(f"There is no split '{spec['split']}', only {', '.join(SPLITS)}.")
    names = settings_of(Path(spec["model"]))["names"]
    rows = read_split(EncoderData(path=spec["data"], names=names), spec["split"])
    prepare_environment()  # not before: it takes the Hub away
    ask, tokenizer, settings = load(Path(spec["model"]))
    texts = encode(tokenizer, [row.text for row in rows], settings["prompt"], settings["max_length"])
    logits = finite(ask(texts))
    gold = [row.label for row in rows]
    return {"scores": scores(logits, gold), "n": len(rows), "cut": texts.cut, "names": settings["names"],
            "confusion": confusion(logits, gold)}


def load(folder: Path) -> Loaded:
    """Load a trained or exported classifier.

    Raises:
        InputError: the folder holds none, or it is damaged.
    """
    if is_exported(folder):
        from distill.models import load_tokenizer

        return OnnxClassifier(folder).logits_of, load_tokenizer(folder), settings_of(folder)
    model, tokenizer, settings = load_classifier(folder)
    # As in training; in float32 where bfloat16 would be slow.
    bfloat16 = settings["bfloat16"] and in_bfloat16("auto")
    model.to(devices.torch_device())
    return lambda texts: logits_of(model, texts, bfloat16), tokenizer, settings
