"""Prompt candidates to prompts that fit, a batch at a time: what a process makes of texts, and what it counts."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np
import pyarrow as pa

from distill.prompting.candidate import PromptCandidate
from distill.prompting.length import Limits, fit
from distill.run.hashing import id_hash
from distill.run.records import Drop, Prompt, arrow_schema

EXCERPT = 200


@dataclass
class Fitted:
    """What became of a batch of candidates, in their order.

    ``prompts`` are those that fit (columns of Prompt) and ``keys`` (uint64) the hashes of their ids; for each of them,
    ``candidates`` has the number of its candidate in the batch, ``texts`` that of its text, and ``shortened`` whether
    it lost demonstrations. ``drops`` are the others, by the numbers of their candidates. ``n_candidates`` and
    ``n_texts`` are how many there were.
    """

    prompts: pa.Table
    keys: np.ndarray
    candidates: np.ndarray
    texts: np.ndarray
    shortened: np.ndarray
    drops: list[tuple[int, Drop]]
    n_candidates: int
    n_texts: int


class Fitter:
    """Renders candidates as long as they may be, and sorts out those that are too long or were built before.

    A prompt can only be built twice on one text, whose candidates of a kind come one after another. So for each kind,
    the ids of one text are remembered.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._seen: dict[str, tuple[str, set[str]]] = {}

    def __call__(self, texts: Iterable[Sequence[PromptCandidate]]) -> Fitted:
        """Return what becomes of the candidates of some texts."""
        kept: list[Prompt] = []
        numbers: list[tuple[int, int, bool]] = []
        drops: list[tuple[int, Drop]] = []
        number, text = 0, -1
        for text, candidates in enumerate(texts):
            for candidate in candidates:
                size, reason, detail = fit(candidate, self._limits)
                prompt = candidate.render(size)
                if not reason and self._again(prompt):
                    reason, detail = "duplicate_prompt", f"the same {prompt.kind} prompt was built before"
                if reason:
                    drops.append((number, Drop(prompt.id, f"prompts/{candidate.family}", reason, detail,
                                               candidate.text[:EXCERPT])))
                else:
                    kept.append(prompt)
                    numbers.append((number, text, size < len(candidate.demonstrations)))
                number += 1
        found = np.array(numbers, np.int64).reshape(-1, 3)
        keys = np.array([id_hash(prompt.id) for prompt in kept], np.uint64)
        return Fitted(_table(kept), keys, found[:, 0], found[:, 1], found[:, 2], drops, number, text + 1)

    def _again(self, prompt: Prompt) -> bool:
        text_id, ids = self._seen.get(prompt.kind, ("", set()))
        if text_id != prompt.text_id:
            ids = set()
            self._seen[prompt.kind] = prompt.text_id, ids
        again = prompt.id in ids
        ids.add(prompt.id)
        return again


class TextBatches:
    """Builds the prompts of a family from texts that come in Arrow tables (columns ``id`` and ``text``)."""

    def __init__(self, candidates_of: Callable[[str, str], Sequence[PromptCandidate]], limits: Limits) -> None:
        self._candidates_of, self._fitter = candidates_of, Fitter(limits)

    def __call__(self, texts: pa.Table) -> Fitted:
        """Return the prompts of a batch of texts."""
        return self._fitter(map(self._candidates_of, texts["id"].to_pylist(), texts["text"].to_pylist()))


@dataclass
class Tally:
    """The account of one family while its prompts are built, until there are ``wanted`` of them."""

    wanted: int
    n_in: int = 0
    n_out: int = 0
    shortened: int = 0
    demonstrations: int = 0
    n_texts: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    first_drop: str = ""

    def take(self, batch: Fitted) -> tuple[Fitted, list[Drop]]:
        """Count a batch, without what is no longer wanted; return that part of it, and its drops.

        Nothing after the last prompt that is wanted counts, so the account does not depend on the batches.
        """
        left = self.wanted - self.n_out
        if len(batch.prompts) >= left:
            batch = _first(batch, left)
        self.n_in += batch.n_candidates
        self.n_out += len(batch.prompts)
        self.shortened += int(batch.shortened.sum())
        self.demonstrations += int(batch.prompts["n_demonstrations"].to_numpy().sum())
        self.n_texts += len(np.unique(batch.texts))
        for entry in batch.prompts["kind"].value_counts().to_pylist():
            self.kinds[entry["values"]] += entry["counts"]
        for _, drop in batch.drops:
            self.dropped[drop.reason] += 1
            self.first_drop = self.first_drop or drop.detail
        return batch, [drop for _, drop in batch.drops]


def _first(batch: Fitted, n: int) -> Fitted:
    """Return a batch up to its ``n``-th prompt."""
    n_candidates = int(batch.candidates[n - 1]) + 1 if n else 0
    return Fitted(batch.prompts.slice(0, n), batch.keys[:n], batch.candidates[:n], batch.texts[:n], batch.shortened[:n],
                  [item for item in batch.drops if item[0] < n_candidates], n_candidates, batch.n_texts)


def _table(prompts: Sequence[Prompt]) -> pa.Table:
    schema = arrow_schema(Prompt)
    columns = zip(*map(attrgetter(*schema.names), prompts), strict=True) if prompts else [()] * len(schema)
    return pa.table([pa.array(column, of.type) for column, of in zip(columns, schema, strict=True)], schema=schema)
