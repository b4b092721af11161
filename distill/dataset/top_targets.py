"""What the objective ``logits`` learns of a row: the teacher's likeliest tokens at each token of its answer.

A row's answer is the teacher's as the student writes it: behind another prompt (a space where a chat begins), without
what was thought before, and with the student's own end token. Tokens that are the teacher's own, counted from the end,
have its distribution; the others are learned as by ``sft``, and counted.
"""

import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from distill.dataset.tokens import RowEncoder
from distill.generation.label_logprobs import has_distribution
from distill.generation.status import RESPONSES
from distill.generation.top_logprobs import TOP, tokens_of
from distill.models.same_vocabulary import refuse_other_vocabulary
from distill.models.vocabulary import embeddings_of
from distill.run.hashing import id_hash
from distill.run.records import Prompt, Response, TokenizedRow, TopRow
from distill.run.top_logprobs import TopLogprobs

_MOST_BEHIND = 4
"""Tokens at the end of an answer that only one side has: white space, and the token that ends it."""
_FEW = 0.9

log = logging.getLogger("sentidistill.dataset")


class TopTargets:
    """The log-probabilities beside a stage's answers, in the order in which the prompts stand in their file."""

    record = TopRow

    def __init__(self, run: Path, stage: str, encoder: RowEncoder, student: Path) -> None:
        """Look at the vocabularies first.

        Raises:
            InputError: the student's is another.
            RunError: a file beside the answers is damaged.
        """
        self._stage, self._responses = stage, run / stage / RESPONSES
        self._encoder, self._other = encoder, ""
        refuse_other_vocabulary(tokens_of(self._responses), encoder.tokenizer, "logits", embeddings_of(student))
        self._paths = TOP.paths(self._responses)
        self._records: dict[str, TopLogprobs] = {}
        self._last = -1
        self.n_rows = self.n_with_distribution = self.n_tokens = self.n_tokens_with_distribution = 0

    def labelled(self, row: TokenizedRow, prompt: Prompt, response: Response) -> TopRow:
        """Return a row with the likeliest tokens at its own, as far as they are the teacher's own."""
        completion = row.input_ids[row.n_prompt_tokens:]
        found = None if has_distribution(prompt) else self._of(prompt)
        first, last, start = 0, 0, 0
        if found is not None and response.output.rstrip().endswith(row.completion):
            first, last, start = common_end(completion, found.token_ids.tolist())
        if not has_distribution(prompt):
            self._count(completion, found, last - first)
        same = {field.name: getattr(row, field.name) for field in fields(TokenizedRow)}
        if found is None or last == first:
            return TopRow(**same)
        part = slice(start, start + last - first)
        return TopRow(**same, top_first=first, top_ids=found.top_ids[part].ravel(),
                      top_logprobs=found.top_logprobs[part].ravel(), rest_logprobs=found.rest_logprobs[part])

    def _count(self, completion: Sequence[int], found: TopLogprobs | None, n: int) -> None:
        self.n_rows += 1
        self.n_tokens += len(completion)
        self.n_with_distribution += n > 0
        self.n_tokens_with_distribution += n
        if found is not None and n < len(completion) // 2 and not self._other:
            self._other = (f"an answer's tokens are {list(completion[:8])} for the student and "
                           f"{found.token_ids[:8].tolist()} for the teacher")

    def _of(self, prompt: Prompt) -> TopLogprobs | None:
        """Return a record. Prompts come in the order of their ids' hashes, and shards are ranges of it."""
        while self._last < id_hash(prompt.id):
            path = next(self._paths, None)
            if path is None:
                return None
            self._records = {record.prompt_id: record for record in TOP.read(path)}
            self._last = max(map(id_hash, self._records), default=self._last)
        return self._records.get(prompt.id)

    def details(self) -> dict[str, Any]:
        """Return how many rows and tokens of free answers there are, and of how many the distribution is learned."""
        return {"rows": self.n_rows, "with_distribution": self.n_with_distribution, "tokens": self.n_tokens,
                "tokens_with_distribution": self.n_tokens_with_distribution}

    def tell(self) -> None:
        """Warn where much is learned as by ``sft``."""
        if self.n_tokens_with_distribution < _FEW * self.n_tokens:
            log.warning("Stage %s: %s of %s tokens of free answers are learned with the teacher's distribution "
                        "(train.objective: logits), the others as by sft%s.", self._stage,
                        f"{self.n_tokens_with_distribution:,}", f"{self.n_tokens:,}",
                        f"; {self._other}" if self._other else "")

    def why_none(self) -> str:
        """Say that no row has a distribution, and why that may be."""
        if not self.n_rows:
            return (f"no row of stage {self._stage} has a free answer: use train.objective labels, which learns "
                    "distributions over labels, or sft")
        return (f"of the {self.n_rows} rows of stage {self._stage} with free answers, none has the teacher's "
                f"log-probabilities{f' ({self._other})' if self._other else ''}. With teacher.logprobs.top_k set to "
                "20, the same command gives finished answers theirs without asking for them again")


def common_end(ours: Sequence[int], theirs: Sequence[int]) -> tuple[int, int, int]:
    """Return where the longest run of equal tokens stands that reaches the ends, but for a few: in ``ours``, from the
    first up to the last, which is left out, and where it begins in ``theirs``.
    """
    best = (0, 0, 0)
    for cut_ours in (0, 1):  # the end token
        for cut_theirs in range(min(_MOST_BEHIND, len(theirs)) + 1):
            last, other = len(ours) - cut_ours, len(theirs) - cut_theirs
            size = 0
            while size < min(last, other) and ours[last - size - 1] == theirs[other - size - 1]:
                size += 1
            if size > best[1] - best[0]:
                best = last - size, last, other - size
    return best


def top_inputs(run: Path, stages: Sequence[str]) -> dict[str, Any]:
    """Return what decides the log-probabilities in the rows, for the fingerprint of a stage."""
    return {"top_targets": {stage: TOP.digest(run / stage / RESPONSES) for stage in stages}} if stages else {}

