"""What each training row takes in a device batch, by its objective: tokens, logits, sequences."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from distill.config.sections.training import LabelsObjective, LogitsObjective, Objective, OnPolicyObjective
from distill.training.memory import Batch
from distill.training.objectives.labels import added_tokens
from distill.training.objectives.on_policy import answers_of_rows
from distill.training.token_files import IGNORED


@dataclass(frozen=True)
class RowSizes:
    """Of each row: its tokens, how often logits are held for one of them, and how many sequences are made of it.

    ``one_mask``: the objective has an attention mask of its own, which all layers share.
    """

    lengths: list[int]
    logits: list[int]
    sequences: list[int]
    one_mask: bool = False

    def batch(self, rows: list[int], *, packed: bool, masked: bool) -> Batch:
        """Return what a device batch of some rows takes; ``masked``: attention is told of padding by a mask."""
        lengths = [self.lengths[row] for row in rows]
        tokens = sum(lengths) if packed else max(lengths) * len(rows)
        n_sequences = 1 if packed else sum(self.sequences[row] for row in rows)
        needs_mask = self.one_mask or (masked and (len(rows) > 1 if packed else len(set(lengths)) > 1))
        return Batch(tokens, sum(self.logits[row] for row in rows),
                     tokens ** 2 // n_sequences if needs_mask else 0, self.one_mask)


def sizes_of(objective: Objective, rows: pa.Table, count: int) -> RowSizes:
    """Return the sizes of the first ``count`` rows of an Arrow table of tokens (:mod:`.token_files`)."""
    lengths, learned, sequences = rows.column("length").to_pylist()[:count], learned_of_rows(rows)[:count], [1] * count
    if isinstance(objective, LabelsObjective):
        more = added_tokens(rows)[:count]
        lengths, learned = ([a + b for a, b in zip(some, more, strict=True)] for some in (lengths, learned))
    elif isinstance(objective, OnPolicyObjective):
        # Each answer of a row is one by itself, behind all that stands before it.
        sequences = answers_of_rows(rows)[:count]
        lengths = [n * (length + objective.max_tokens) for n, length in zip(sequences, lengths, strict=True)]
        learned = [n * objective.max_tokens for n in sequences]
    copies = _logit_copies(objective)
    return RowSizes(lengths, [copies * n for n in learned], sequences, isinstance(objective, LabelsObjective))


def learned_of_rows(rows: pa.Table) -> list[int]:
    """Return how many tokens are learned of each row of an Arrow table."""
    found: list[int] = []
    for labels in rows.column("labels").chunks:  # mapped from a file that may be larger than the memory
        learned = np.concatenate([[0], np.cumsum(labels.values.to_numpy() != IGNORED)])
        ends = labels.offsets.to_numpy()
        found += (learned[ends[1:]] - learned[ends[:-1]]).tolist()
    return found


def _logit_copies(objective: Objective) -> int:
    """Return how often an objective holds the logits of learned tokens."""
    if isinstance(objective, LogitsObjective):
        return 4 if objective.across_vocabularies else 3
    return 3 if isinstance(objective, OnPolicyObjective) else 1
