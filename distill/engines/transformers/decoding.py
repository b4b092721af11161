"""Decoding many rows together with a Hugging Face model, each with its own random numbers.

``generate`` of transformers draws from one global generator and obeys the sampling settings that lie in the
model's folder; here a request's answer depends on the request alone (but for the last bits of floating point).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from distill.engines.transformers.forward import Prefix
from distill.engines.transformers.label_scores import tree_logprobs
from distill.engines.transformers.padding import left_pad, positions
from distill.engines.transformers.rows import Row
from distill.engines.transformers.sampling import Warpers, next_tokens
from distill.engines.transformers.top_k import top_of

OnEnd = Callable[[Row], None]
"""Told of each row as it ends."""


@torch.inference_mode()
def decode(model: Any, tokenizer: Any, rows: Sequence[Row], end_ids: Sequence[int], on_end: OnEnd,
           prefix: Prefix | None = None, warpers: Warpers = (), *, with_trees: bool = False) -> None:
    """Decode ``rows`` together to their ends, padded on the left. ``prefix``: what all their prompts begin with.

    ``with_trees``: the labels of rows that have some are scored. That takes a model that can share a prefix.
    """
    running, shared = list(rows), prefix.length if prefix is not None else 0
    ids, mask = left_pad([row.prompt[shared:] for row in running], tokenizer.pad_token_id, model.device)
    mask = torch.cat([mask.new_ones((len(mask), shared)), mask], dim=-1)
    where, cache = positions(mask)[:, shared:], prefix.cache(len(running)) if prefix is not None else None
    while running:
        result = model(input_ids=ids, attention_mask=mask, position_ids=where, past_key_values=cache, use_cache=True,
                       logits_to_keep=1)
        cache = result.past_key_values
        if with_trees:
            with_trees = False
            if trees := {index: row.tree for index, row in enumerate(running) if row.tree}:
                scores = tree_logprobs(model, trees, result.logits[:, -1], cache, mask, where[:, -1])
                for index, found in scores.items():
                    running[index].label_logprobs = found
        logits = result.logits[:, -1].float()
        if any(row.top_k for row in running):
            top_ids, top_logs = top_of(logits, max(row.top_k for row in running))
            for row, ids_of, logs in zip(running, top_ids, top_logs, strict=True):
                if row.top_k:
                    row.top.append((ids_of[:row.top_k], logs[:row.top_k]))
        tokens = next_tokens(logits, running, warpers)
        for row, token in zip(running, tokens, strict=True):
            if row.sampling.max_tokens:
                row.append(token, tokenizer, end_ids)
            else:
                row.reason = "stop"  # its labels were all that was asked
            if row.reason:
                on_end(row)
        kept = [index for index, row in enumerate(running) if not row.reason]
        ids, where = torch.tensor(tokens, device=model.device)[:, None], where[:, -1:] + 1
        if kept and len(kept) < len(running):
            chosen = torch.tensor(kept, device=model.device)
            cache.batch_select_indices(chosen)
            ids, mask, where = ids[chosen], mask[chosen], where[chosen]
        mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=-1)
        running = [running[index] for index in kept]
