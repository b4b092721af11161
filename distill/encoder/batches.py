"""Texts as token ids, and as padded batches of like lengths."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from distill.errors import InputError
from distill.prompting.template import fill

_TOKENS = 2048  # in a batch without gradients: more leave a processor's caches (MiniLM, 2 cores: 383 to 309 with 8,192)

_ROOM = 4
"""Tokens that a text must be able to have at least."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of texts; ``places_cut`` are of those that were longer than the model takes, or than was asked for."""

    ids: list[list[int]]
    pad: int
    places_cut: Sequence[int] = ()

    @property
    def cut(self) -> int:
        """How many were cut."""
        return len(self.places_cut)

    def padded(self, places: Sequence[int], device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
        """Return ``input_ids`` and ``attention_mask`` of some texts (texts × longest)."""
        longest = max(len(self.ids[place]) for place in places)
        ids = torch.full((len(places), longest), self.pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, place in enumerate(places):
            ids[row, :len(self.ids[place])] = torch.tensor(self.ids[place])
            mask[row, :len(self.ids[place])] = 1
        return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def encode(tokenizer: Any, texts: list[str], prompt: str, limit: int) -> Encoded:
    """Tokenise texts, each in a ``prompt`` with ``{Text}``; special tokens that stand in them are plain characters.

    Longer ones than ``limit`` tokens are cut at the end.

    Raises:
        InputError: the prompt leaves no room for texts.
    """
    asked = [fill(prompt, Text=text) for text in texts]
    options = {"split_special_tokens": True, "return_attention_mask": False}
    alone = len(tokenizer(fill(prompt, Text=""), **options)["input_ids"])
    if alone + _ROOM > limit:
        raise InputError(f"The task prompt alone takes {alone} of the {limit} tokens that a text may have, so that the "
                         f"texts would be cut away. Set max_length to {alone + _ROOM} or more (if the backbone takes "
                         "so many), or prompt to false.")
    whole = tokenizer(asked, truncation=False, verbose=False, **options)["input_ids"]
    cut = [place for place, ids in enumerate(whole) if len(ids) > limit]
    for place in cut:
        whole[place] = tokenizer(asked[place], truncation=True, max_length=limit, **options)["input_ids"]
    return Encoded(whole, tokenizer.pad_token_id, cut)


def batches_of(texts: Encoded, device: torch.device) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    """Yield places and padded batches of all texts on a device, those of like length together."""
    order = sorted(range(len(texts.ids)), key=lambda place: len(texts.ids[place]), reverse=True)
    while order:
        count = max(1, _TOKENS // len(texts.ids[order[0]]))
        places, order = order[:count], order[count:]
        yield places, texts.padded(places, device)


def computing(bfloat16: bool, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the precision in which a model computes over its float32 weights."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)
