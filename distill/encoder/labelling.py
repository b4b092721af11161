"""Prompts put to a teacher that labels, each answer kept as it comes, and what its answers say."""

import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from distill.config.sections.encoder import TeacherLabels
from distill.engines.base import LabelScores, Output, Request, Sampling
from distill.engines.cached import CachedEngine
from distill.engines.client import Client
from distill.engines.encoding import NOT_A_NUMBER
from distill.errors import ProcessDiedError
from distill.parsing import reasoning
from distill.parsing.labels import UNREADABLE, parse_answer
from distill.run.storage import lock

_FINAL = {"prompt_too_long", "content_filter", "refused", "not_encodable", "empty_prompt", NOT_A_NUMBER}
"""What would be said of a text again. Whatever else goes wrong may pass: those texts are asked once more."""
_AT_ONCE = 1024


def ask(client: Client, config: TeacherLabels, prompts: Sequence[str], words: Sequence[str], kept: Path, log: Path
        ) -> list[dict[str, Any]]:
    """Return the answer to each prompt: ``{"probabilities"}`` of the words, or ``{"error"}``, and what was ``raw``.

    ``kept``: the file of answers; tracebacks go to ``log``.

    Raises:
        InputError, RunError: as :meth:`distill.engines.client.Client.opened`.
        ProcessDiedError: some texts were not answered for a reason that may pass. The other answers are kept.
    """
    chat, sampling = config.chat_template, Sampling(max_tokens=config.max_tokens, first_line=True)
    scores = config.soft and config.engine.capabilities.label_scores
    continuations = [word if chat else f" {word}" for word in words]
    found: list[Output | LabelScores] = []
    with client.opened(log) as engine, lock(kept), client.cache(kept, engine.computed) as cache, tqdm(
            total=len(prompts), desc="the teacher labels", unit="text", file=sys.stderr,
            mininterval=0.5 if sys.stderr.isatty() else 20) as bar:
        cached = CachedEngine(engine, cache)

        def done(some: Sequence[Output | LabelScores]) -> None:
            bar.update(len(some))

        for start in range(0, len(prompts), _AT_ONCE):
            requests = [Request("", prompt, sampling, chat) for prompt in prompts[start:start + _AT_ONCE]]
            found += (cached.score_labels(requests, [continuations] * len(requests), done) if scores else
                      cached.generate(requests, done))
    passing = Counter(one.error for one in found if one.error and one.error not in _FINAL)
    if passing:
        raise ProcessDiedError(
            f"The teacher did not label {passing.total():,} of {len(cached.asked):,} texts, for reasons that may pass "
            f"({', '.join(f'{count:,} {reason}' for reason, count in passing.most_common())}). The other labels "
            "are kept; the same command asks only for these.")
    return [_read(one, words) for one in found]


def _read(answer: Output | LabelScores, words: Sequence[str]) -> dict[str, Any]:
    if answer.error:
        return {"error": answer.error}
    if isinstance(answer, LabelScores):
        if not all(map(math.isfinite, answer.scores)):
            return {"error": NOT_A_NUMBER}
        likelihoods = np.exp(np.asarray(answer.scores) - max(answer.scores))
        return {"probabilities": (likelihoods / likelihoods.sum()).tolist()}
    label = parse_answer(answer.text, list(words), False)
    why = reasoning.TRUNCATED if reasoning.split(answer.text).cut_off else UNREADABLE
    return {"error": why, "raw": answer.text} if label is None else {
        "probabilities": [float(word == label) for word in words]}
