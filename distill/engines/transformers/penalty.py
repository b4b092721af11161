"""The repetition penalty that some models ship in their generation_config.json, as ``generate`` of transformers has it.

A token that the prompt or the answer so far holds has its logit divided by the penalty where it is above 0, and
multiplied where it is below (Keskar et al., 2019). Nothing here obeys it unasked: answers would depend on the folder.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.run.storage import read_json

log = logging.getLogger("sentidistill.engines")
_NOT_OBEYED: dict[str, tuple[Any, ...]] = {
    "no_repeat_ngram_size": (None, 0), "encoder_no_repeat_ngram_size": (None, 0), "min_length": (None, 0),
    "min_new_tokens": (None, 0), "encoder_repetition_penalty": (None, 1.0), "bad_words_ids": (None,),
    "suppress_tokens": (None, []), "begin_suppress_tokens": (None, []), "sequence_bias": (None,),
    "forced_bos_token_id": (None,), "exponential_decay_length_penalty": (None,)}


def shipped_penalty(folder: Path) -> float:
    """Return the repetition penalty of a model's folder, 1 where it has none.

    What else of such settings would change greedy answers is not obeyed, and a warning names it.

    Raises:
        InputError: it is not a number above 0.
    """
    path = next((path for path in (folder / "generation_config.json", folder / "config.json") if path.is_file()), None)
    settings = read_json(path) if path else {}
    others = [key for key, neutral in _NOT_OBEYED.items() if settings.get(key) not in neutral]
    if others:
        log.warning("%s sets %s, which would change what a model writes and is not obeyed here.", path,
                    ", ".join(others))
    found = settings.get("repetition_penalty")
    if found is None:
        return 1.0
    if not isinstance(found, int | float) or isinstance(found, bool) or not (math.isfinite(found) and found > 0):
        raise InputError(f"{path} has the repetition_penalty {found!r:.40}, which is not a number above 0. Mend it, or "
                         "take it out.")
    return float(found)


def penalised(logits: Any, seen: Sequence[int], penalty: float) -> Any:
    """Return logits (vocabulary) with the penalty on the tokens ``seen``; without one, those that were given."""
    import torch

    if penalty == 1 or not seen:
        return logits
    at = torch.tensor(sorted(set(seen)), device=logits.device)
    chosen = logits[at]
    return logits.index_copy(0, at, torch.where(chosen < 0, chosen * penalty, chosen / penalty))
