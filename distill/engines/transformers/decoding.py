"""Decoding many rows together with a Hugging Face model, each with its own random numbers.

``generate`` of transformers draws from one global generator and obeys the sampling settings that lie in the
model's folder; here a request's answer depends on the request alone (but for the last bits of floating point).
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

from distill.engines.transformers.acceleration.slots import Slots, common_prefix, last_logits, step
from distill.engines.transformers.padding import left_pad, positions
from distill.engines.transformers.rows import Row
from distill.engines.transformers.sampling import next_tokens

OnEnd = Callable[[Row], None]
"""Told of each row as it ends."""

PROMPT_ROWS = 32
"""Prompts in one forward pass at most: each end at another position costs logits for all of them."""

_WORTH_SHARING = 16  # tokens; a shorter common beginning is not worth a forward pass of its own


def shared_prefix(sequences: Sequence[list[int]]) -> int:
    """Return how many tokens that all sequences begin with are worth being computed once: a tenth or more of them."""
    if len(sequences) < 2:
        return 0
    length = common_prefix(sequences)
    enough = max(_WORTH_SHARING, 0.1 * sum(map(len, sequences)) / len(sequences))
    return length if length >= enough else 0


@torch.inference_mode()
def decode_in_slots(model: Any, tokenizer: Any, rows: Sequence[Row], end_ids: Sequence[int], n_slots: int,
                    prompt_tokens: int, on_end: OnEnd) -> None:
    """Decode ``rows`` to their ends, up to ``n_slots`` at once; where some have ended, the next take their place.

    Prompts are computed in forward passes of about ``prompt_tokens``; give the rows longest prompt first, so that
    these need little padding.
    """
    waiting, running = deque(rows), list[Row]()
    slots = Slots(min(n_slots, len(rows)), max(row.max_length for row in rows))
    start = shared_prefix([row.prompt for row in rows])
    if start:
        last_logits(model, [rows[0].prompt[:start]], slots)
        slots.share(start)
    while waiting or running:
        # A few prompts at once, as many small forward passes take longer than one.
        if waiting and (not running or n_slots - len(running) >= max(1, n_slots // 8)):
            entering = _next(waiting, n_slots - len(running), start, prompt_tokens)
            logits = last_logits(model, [row.prompt[start:] for row in entering], slots, len(running), start)
            running += entering
        else:
            entering = running
            logits = step(model, slots, [row.tokens[-1] for row in running], [row.position for row in running])
        for row, token in zip(entering, next_tokens(logits, entering), strict=True):
            row.append(token, tokenizer, end_ids)
        for at in reversed(range(len(running))):
            if running[at].reason:
                on_end(running[at])
                last = running.pop()
                if at < len(running):
                    running[at] = last
                    slots.move(len(running), at)


def _next(waiting: deque[Row], free: int, start: int, prompt_tokens: int) -> list[Row]:
    """Take the rows whose prompts are computed next: the first of those that wait, within the bounds."""
    rows = [waiting.popleft()]
    width = len(rows[0].prompt) - start
    while waiting and len(rows) < min(free, PROMPT_ROWS) and (len(rows) + 1) * width <= prompt_tokens:
        rows.append(waiting.popleft())
        width = max(width, len(rows[-1].prompt) - start)
    return rows


@torch.inference_mode()
def decode_padded(model: Any, tokenizer: Any, rows: Sequence[Row], end_ids: Sequence[int], on_end: OnEnd) -> None:
    """Decode ``rows`` together padded on the left, with whatever cache the model makes for itself."""
    running = list(rows)
    ids, mask = left_pad([row.prompt for row in running], tokenizer.pad_token_id, model.device)
    where, cache = positions(mask), None
    while running:
        result = model(input_ids=ids, attention_mask=mask, position_ids=where, past_key_values=cache, use_cache=True,
                       logits_to_keep=1)
        cache = result.past_key_values
        tokens = next_tokens(result.logits[:, -1].float(), running)
        for row, token in zip(running, tokens, strict=True):
            row.append(token, tokenizer, end_ids)
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
