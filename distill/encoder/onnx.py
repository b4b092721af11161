"""A classifier as an ONNX file, for where there is no PyTorch: the same predictions, checked when it is written."""

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill.encoder.batches import Encoded, batches_of, encode
from distill.encoder.embeddings import classes_of, logits_of
from distill.encoder.model import Classifier, load_classifier
from distill.encoder.settings import SETTINGS
from distill.errors import RunError
from distill.models.onnx_session import FILE, open_session, require_onnx
from distill.models.quiet import quiet_transformers
from distill.models.tokenization import save_tokenizer
from distill.run.storage import write_json

_CLOSE = 1e-3
_CPU = torch.device("cpu")


class OnnxClassifier:
    """A classifier in ONNX Runtime: token ids in, logits out, in float32."""

    def __init__(self, folder: Path) -> None:
        """Load ``model.onnx``.

        Raises:
            InputError: onnxruntime is not installed, or the file is damaged.
        """
        self._session = open_session(folder)

    def logits_of(self, texts: Encoded) -> torch.Tensor:
        """Return the logits (texts × classes) of tokenised texts, in their order."""
        found: dict[int, Any] = {}
        for places, batch in batches_of(texts, _CPU):
            (logits,) = self._session.run(None, {name: value.numpy() for name, value in batch.items()})
            found.update(zip(places, logits, strict=True))
        return torch.stack([torch.from_numpy(found[place]) for place in range(len(texts.ids))])


class _Answering(nn.Module):
    """Only what is asked of a classifier from outside."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return logits


def export(spec: dict[str, Any]) -> dict[str, Any]:
    """Write a classifier's folder for ONNX Runtime, and compare what both say of ``texts``.

    ``spec``: ``model`` (folder), ``out`` (folder), ``texts``. Returns ``texts``, the largest ``difference`` of a logit,
    and ``bytes`` of the file.

    Raises:
        InputError: there is no classifier, or no exporter.
        RunError: the two do not say the same.
    """
    model, tokenizer, settings = load_classifier(Path(spec["model"]))
    out = Path(spec["out"])
    out.mkdir(parents=True, exist_ok=True)
    _write(model, min(settings["max_length"], tokenizer.model_max_length), out / FILE)
    save_tokenizer(tokenizer, out)
    write_json(out / SETTINGS, settings)
    texts = encode(tokenizer, spec["texts"], settings["prompt"], settings["max_length"])
    ours, theirs = logits_of(model, texts, bfloat16=False), OnnxClassifier(out).logits_of(texts)
    difference = float((ours - theirs).abs().max())
    if not difference <= _CLOSE or classes_of(ours) != classes_of(theirs):
        (out / FILE).unlink()
        raise RunError(f"The exported model does not say the same as {spec['model']} of {len(texts.ids)} texts (logits "
                       f"differ by up to {difference:.2g}). It was deleted; this is a defect of the exporter for this "
                       "architecture.")
    return {"texts": len(texts.ids), "difference": difference, "bytes": (out / FILE).stat().st_size}


def _write(model: Classifier, longest: int, path: Path) -> None:
    require_onnx()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of operators that no encoder has
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=longest)
    example = (torch.ones(2, 5, dtype=torch.long), torch.ones(2, 5, dtype=torch.long))
    with quiet_transformers(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Answering(model).eval(), example, dynamo=True, input_names=["input_ids", "attention_mask"],
            output_names=["logits"], verbose=False,
            dynamic_shapes={"input_ids": {0: batch, 1: length}, "attention_mask": {0: batch, 1: length}})
    assert program is not None
    program.save(path)


def is_exported(folder: Path) -> bool:
    """Say whether a folder holds a classifier that was exported."""
    return (folder / FILE).is_file() and (folder / SETTINGS).is_file()
