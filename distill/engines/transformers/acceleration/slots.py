"""Keys and values of many rows in one store, a slot each, with what all rows begin with computed once.

Column p of a slot belongs to the row's token at position p, so there is no padding to the left, a row's mask follows
from its length, and a slot is free again as soon as its row has ended. Prompts are computed a few at a time, with
padding to the right, which later tokens overwrite.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from distill.engines.transformers.acceleration.agreement import agree
from distill.engines.transformers.padding import right_pad

log = logging.getLogger(__name__)


class Slots(Cache):
    """The store. ``room`` is the number of columns: the longest row, its answer included."""

    def __init__(self, rows: int, room: int) -> None:
        super().__init__(layers=[])
        self._size = (rows, room)
        self._stores: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._rows = slice(0, 0)
        self._start = 0
        self._steps: torch.Tensor | None = None
        self._each = torch.arange(0)
        self._width = 0

    def prompts_at(self, first: int, count: int, start: int) -> None:
        """Let the next forward pass write whole prompts into ``count`` slots from ``first``, from column ``start``.

        What earlier rows left in later columns is cleared: a masked column counts nothing, but what is not a number
        would still spread.
        """
        self._rows, self._start, self._steps = slice(first, first + count), start, None

    def steps_at(self, lengths: torch.Tensor, width: int) -> None:
        """Let the next forward pass write one token into each of the first slots, at column ``lengths[slot]``."""
        self._rows, self._steps, self._width = slice(0, len(lengths)), lengths, width
        self._each = torch.arange(len(lengths), device=lengths.device)

    def share(self, length: int) -> None:
        """Copy the first ``length`` columns of the first slot to all others."""
        for keys, values in self._stores.values():
            keys[1:, :, :length] = keys[:1, :, :length]
            values[1:, :, :length] = values[:1, :, :length]

    def branch(self, rows: int, room: int) -> "Slots":
        """Return a store of another size in which every slot begins with what the first of this one holds."""
        other = Slots(rows, room)
        for layer, (keys, values) in self._stores.items():
            theirs = other._store(layer, keys, values)
            for mine, store in zip((keys, values), theirs, strict=True):
                store[:, :, :mine.shape[2]] = mine[:1]
        return other

    def move(self, source: int, target: int) -> None:
        """Copy a slot to another."""
        for keys, values in self._stores.values():
            keys[target] = keys[source]
            values[target] = values[source]

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any,
               **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a layer's new keys and values, (rows, heads, tokens, width), and return all that its queries see."""
        keys, values = self._store(layer_idx, key_states, value_states)
        if self._steps is None:
            width = self._start + key_states.shape[-2]
            for store, states in ((keys, key_states), (values, value_states)):
                store[self._rows, :, self._start:width] = states
                store[self._rows, :, width:] = 0
        else:
            width = self._width
            keys[self._each, :, self._steps] = key_states[:, :, 0]
            values[self._each, :, self._steps] = value_states[:, :, 0]
        return keys[self._rows, :, :width], values[self._rows, :, :width]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens before those of the next forward pass."""
        return self._start

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Return the number of columns that a mask covers, and where they begin."""
        return self._start + query_length, 0

    def _store(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if layer not in self._stores:
            rows, room = self._size
            self._stores[layer] = (keys.new_empty((rows, keys.shape[1], room, keys.shape[3])),
                                   values.new_empty((rows, values.shape[1], room, values.shape[3])))
        return self._stores[layer]


def common_prefix(sequences: Sequence[list[int]]) -> int:
    """Return how many tokens all sequences begin with, leaving each at least one of its own."""
    first, last = min(sequences), max(sequences)
    limit = min(map(len, sequences)) - 1
    return next((at for at in range(limit) if first[at] != last[at]), limit)


def last_logits(model: Any, sequences: Sequence[Sequence[int]], slots: Slots | None = None, first: int = 0,
                start: int = 0) -> torch.Tensor:
    """Return the logits after the last token of each sequence, in float32: (rows, vocabulary).

    With ``slots``, the sequences are what comes from position ``start`` on, and are kept from slot ``first`` on.
    """
    ids = right_pad(sequences, model.device)
    ends = torch.tensor([len(sequence) - 1 for sequence in sequences])
    kept, place = ends.unique(return_inverse=True)
    arguments: dict[str, Any] = {"use_cache": False}
    if slots is not None:
        slots.prompts_at(first, len(sequences), start)
        arguments = {"use_cache": True, "past_key_values": slots, "position_ids": _from(start, ids.shape[1], ids)}
        if start:  # else the model's own way, which on CPU knows a faster kernel for a whole triangle
            arguments["attention_mask"] = _triangle(ids.shape[1], start, ids.device)
    logits: torch.Tensor = model(input_ids=ids, logits_to_keep=kept.to(ids.device), **arguments).logits
    return logits[torch.arange(len(sequences)), place].float()


def ending_logits(model: Any, prompt: Sequence[int], endings: Sequence[Sequence[int]],
                  slots: Slots | None) -> torch.Tensor:
    """Return the logits that predict each token of several endings of one prompt: (endings, longest, vocabulary).

    With ``slots``, a slot each holds all of the prompt but its last token.
    """
    before = list(prompt if slots is None else prompt[-1:])
    ids = right_pad([[*before, *ending[:-1]] for ending in endings], model.device)
    where = torch.arange(len(before) - 1, ids.shape[1], device=ids.device)
    arguments: dict[str, Any] = {"use_cache": False}
    if slots is not None:
        start = len(prompt) - 1
        slots.prompts_at(0, len(endings), start)
        arguments = {"use_cache": True, "past_key_values": slots, "position_ids": _from(start, ids.shape[1], ids),
                     "attention_mask": _triangle(ids.shape[1], start, ids.device)}
    logits: torch.Tensor = model(input_ids=ids, logits_to_keep=where, **arguments).logits
    return logits.float()


def step(model: Any, slots: Slots, tokens: Sequence[int], lengths: Sequence[int]) -> torch.Tensor:
    """Append one token to each of the first slots and return the logits after it: (rows, vocabulary)."""
    at = torch.tensor(lengths, device=model.device)
    width = max(lengths) + 1
    slots.steps_at(at, width)
    mask = torch.arange(width, device=model.device)[None, :] <= at[:, None]
    logits: torch.Tensor = model(
        input_ids=torch.tensor(tokens, device=model.device)[:, None], position_ids=at[:, None],
        attention_mask=mask[:, None, None, :], past_key_values=slots, use_cache=True, logits_to_keep=1).logits
    return logits[:, -1].float()


@torch.inference_mode()
def can_use_slots(model: Any) -> bool:
    """Say whether a model gives with slots what it gives without: tried on a few tokens, as architectures differ.

    Models with sliding windows or recurrent layers do not qualify, nor do those whose code takes no such mask.
    """
    whole = [[5, 6, 7, 8, 9, 10], [5, 6, 11, 12]]
    try:
        layers = DynamicCache(config=model.config).layers
        if not layers or any(type(layer) is not DynamicLayer for layer in layers):
            return False
        slots = Slots(rows=3, room=8)
        last_logits(model, [whole[0][:2]], slots)
        slots.share(2)
        last_logits(model, [row[2:-1] for row in whole], slots, first=1, start=2)
        for row in range(len(whole)):
            slots.move(row + 1, row)
        found = step(model, slots, [row[-1] for row in whole], [len(row) - 1 for row in whole])
        expected = torch.stack([model(input_ids=torch.tensor([row], device=model.device)).logits[0, -1]
                                for row in whole])
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        log.info("The cache of slots cannot be used: %s: %s", type(error).__name__, error)
        return False
    return agree(found, expected)


def _from(start: int, count: int, ids: torch.Tensor) -> torch.Tensor:
    return torch.arange(start, start + count, device=ids.device).expand(len(ids), -1)


def _triangle(count: int, start: int, device: Any) -> torch.Tensor:
    return torch.ones((count, start + count), dtype=torch.bool, device=device).tril(start)[None, None]
