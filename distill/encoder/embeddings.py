"""What a frozen backbone says of texts: computed once, and kept for every seed, head and run that asks the same."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from distill.encoder.batches import Encoded, batches_of, computing
from distill.encoder.model import Classifier
from distill.resources import default_cache
from distill.run.hashing import fingerprint
from distill.run.storage import atomic_path, lock

_VERSION = 1


def frozen_embeddings(model: Classifier, texts: Encoded, identity: dict[str, Any], bfloat16: bool) -> torch.Tensor:
    """Return the pooled embeddings (texts × width, float32) of a backbone that ``identity`` names, from the cache."""
    key = fingerprint([_VERSION, identity, model.pooling, bfloat16, texts.ids])
    path: Path = default_cache() / "embeddings" / f"{key}.safetensors"
    with lock(path):  # seeds that are trained at once compute it once
        with contextlib.suppress(SafetensorError, KeyError, OSError):  # not there yet, or damaged: computed anew
            return load_file(path)["embeddings"]
        found = embed(model, texts, bfloat16)
        with atomic_path(path) as temporary:
            save_file({"embeddings": found}, temporary)
    return found


@torch.inference_mode()
def embed(model: Classifier, texts: Encoded, bfloat16: bool) -> torch.Tensor:
    """Return the pooled embeddings (texts × width, float32) of tokenised texts, in their order."""
    model.eval()
    found = torch.empty(len(texts.ids), model.backbone.config.hidden_size)
    device = next(model.parameters()).device
    with computing(bfloat16, device):
        for places, batch in batches_of(texts, device):
            found[places] = model.embed(**batch).float().cpu()
    return found


@torch.inference_mode()
def logits_of(model: Classifier, texts: Encoded, bfloat16: bool, embeddings: torch.Tensor | None = None
              ) -> torch.Tensor:
    """Return the logits (texts × classes, float32) of tokenised texts, from ``embeddings`` where they are given."""
    model.eval()
    if embeddings is None:
        embeddings = embed(model, texts, bfloat16)
    logits: torch.Tensor = model(embeddings=embeddings.to(next(model.head.parameters()).device))
    return logits.float().cpu()


def classes_of(logits: torch.Tensor) -> Sequence[int]:
    """Return the class of each row of logits."""
    return logits.argmax(-1).tolist()
