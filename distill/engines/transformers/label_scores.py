"""How likely the labels of prompts are, in one forward pass over all their tokens behind the prompts' keys and values.

The labels of a row are a tree (:mod:`distill.engines.label_tree`). Its nodes stand side by side, and each sees its
prompt and the nodes above it alone. Models whose cache is more than keys and values are asked label by label.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from distill.engines.label_tree import ROOT, LabelTree
from distill.engines.transformers.forward import ending_logits

MOST_LOGITS = 1 << 26
"""Of the nodes of a batch: 256 MiB in float32."""


def tree_mask(parents: Sequence[int]) -> torch.Tensor:
    """Return which node sees which: (nodes, nodes), itself and those above it."""
    seen = torch.eye(len(parents), dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent != ROOT:
            seen[node] |= seen[parent]
    return seen


def tree_logprobs(model: Any, trees: Mapping[int, LabelTree], first: torch.Tensor, cache: Any, mask: torch.Tensor,
                  last: torch.Tensor) -> dict[int, tuple[float, ...]]:
    """Return the log-probabilities of the labels of some rows of a batch; the cache is afterwards as it was.

    ``first``: the logits behind each row's prompt (rows × vocabulary); ``mask``: which of its tokens are no padding
    (rows × time); ``last``: the position of its last token (rows).
    """
    rows, past, width = len(mask), mask.shape[-1], max(len(tree.tokens) for tree in trees.values())
    ids, depths = torch.zeros((rows, width), dtype=torch.long), torch.ones((rows, width), dtype=torch.long)
    seen = torch.eye(width, dtype=torch.bool).repeat(rows, 1, 1)  # a place without a node sees itself: no NaN
    for row, tree in trees.items():
        size = len(tree.tokens)
        ids[row, :size], depths[row, :size] = torch.tensor(tree.tokens), torch.tensor(tree.depths)
        seen[row, :size, :size] = tree_mask(tree.parents)
    visible = torch.cat([mask.bool()[:, None].expand(rows, width, past), seen.to(mask.device)], dim=-1)[:, None]
    lowest = torch.finfo(model.dtype).min
    logits = model(input_ids=ids.to(mask.device), position_ids=last[:, None] + depths.to(mask.device),
                   attention_mask=torch.zeros_like(visible, dtype=model.dtype).masked_fill(~visible, lowest),
                   past_key_values=cache, use_cache=True).logits
    cache.crop(-width)
    return {row: _logprobs(tree, first[row], logits[row]) for row, tree in trees.items()}


def separate_logprobs(model: Any, prompt: Sequence[int], tree: LabelTree, tokens: int) -> tuple[float, ...]:
    """Return the log-probabilities of the labels of one prompt, each label with a copy of the prompt.

    ``tokens``: those of one forward pass, at most; a single copy is computed whatever it has.
    """
    endings = [[*tree.prefix(node), 0] for node in range(len(tree.tokens))]  # the last token's logits are the node's
    at_once = max(1, tokens // (len(prompt) + max(tree.depths)))
    after = []
    for start in range(0, len(endings), at_once):
        some = endings[start:start + at_once]
        logits = ending_logits(model, prompt, some)
        first = logits[0, 0]
        after += [logits[row, len(ending) - 1] for row, ending in enumerate(some)]
    return _logprobs(tree, first, torch.stack(after))


def _logprobs(tree: LabelTree, first: torch.Tensor, nodes: torch.Tensor) -> tuple[float, ...]:
    after: dict[int, dict[int, float]] = {}
    for node, logits in ((ROOT, first), *enumerate(nodes[:len(tree.tokens)])):
        wanted = tree.wanted(node)
        values = logits.float().log_softmax(-1)[wanted].tolist()
        after[node] = dict(zip(wanted, values, strict=True))
    return tree.logprobs(after)
