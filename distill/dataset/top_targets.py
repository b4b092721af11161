"""What the objective ``logits`` learns of a row: the teacher's likeliest tokens at each token of its answer.

A row's answer is the teacher's as the student writes it: behind another prompt (a space where a chat begins), without
what was thought before, and with the student's own end token. Tokens that are the teacher's own, counted from the end,
have its distribution; the others are learned as by ``sft``, and counted. Across vocabularies, those that are a token of
the teacher's by their text (:mod:`distill.dataset.across_vocabularies`).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from distill.config.sections.training import LogitsObjective
from distill.dataset.across_vocabularies import NONE, AcrossVocabularies
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

    def __init__(self, run: Path, stage: str, objective: LogitsObjective, encoder: RowEncoder, student: Path) -> None:
        """Look at the vocabularies first.

        Raises:
            InputError: the student's is another, and it is not asked for across vocabularies.
            RunError: a file beside the answers is damaged.
        """
        self._named, self._responses = f"{stage} of the run {run.name}", run / stage / RESPONSES
        self._other, self._across = "", None
        tokens, n_ids = tokens_of(self._responses), embeddings_of(student)
        if objective.across_vocabularies:
            self._across = AcrossVocabularies(tokens, encoder.tokenizer, n_ids)
        else:
            refuse_other_vocabulary(tokens, encoder.tokenizer, "logits", n_ids)
        self._paths = TOP.paths(self._responses)
        self._records: dict[str, TopLogprobs] = {}
        self._last = -1
        self.n_rows = self.n_with_distribution = self.n_tokens = self.n_tokens_with_distribution = 0
        self.n_tokens_cut_otherwise = self.n_untold = 0

    def labelled(self, row: TokenizedRow, prompt: Prompt, response: Response) -> TopRow:
        """Return a row with the likeliest tokens at its own, as far as they are the teacher's own."""
        same = {field.name: getattr(row, field.name) for field in fields(TokenizedRow)}
        if has_distribution(prompt):
            return TopRow(**same)
        completion, found = row.input_ids[row.n_prompt_tokens:], self._of(prompt)
        places = np.array([], np.int64)
        if found is not None and response.output.rstrip().endswith(row.completion):
            places = np.array(self._places(completion, found, row.completion), np.int64)
        at = np.flatnonzero(places != NONE)
        self.n_tokens_cut_otherwise += max(0, len(places) - 1 - len(at)) if self._across else 0  # all but the end token
        self._count(completion, found, len(at))
        if found is None or not len(at):
            return TopRow(**same)
        places = places[at[0]:at[-1] + 1]
        ids, rest = found.top_ids[places], found.rest_logprobs[places]
        rest[places == NONE] = np.nan
        return TopRow(**same, top_first=int(at[0]), rest_logprobs=rest, top_logprobs=found.top_logprobs[places].ravel(),
                      top_ids=(self._across.same_ids(ids) if self._across else ids).ravel())

    def _places(self, completion: Sequence[int], found: TopLogprobs, text: str) -> list[int]:
        """Return which of the teacher's tokens each of a row's own is, or ``NONE``; nothing where none is."""
        theirs = found.token_ids.tolist()
        if self._across:
            return self._across.places(completion, theirs, text, _MOST_BEHIND)
        first, last, start = common_end(completion, theirs)
        return [*[NONE] * first, *range(start, start + last - first), *[NONE] * (len(completion) - last)]

    def _count(self, completion: Sequence[int], found: TopLogprobs | None, n: int) -> None:
        self.n_rows += 1
        self.n_tokens += len(completion)
        self.n_with_distribution += n > 0
        self.n_untold += found is None
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
        """Return how many rows and tokens of free answers there are, and of how many the distribution is learned.

        ``untold``: rows beside whose answer nothing is kept: the engine could not tell it, or its shard has no file.
        Across vocabularies, also how many tokens of the student's the teacher cuts otherwise.
        """
        return {"rows": self.n_rows, "with_distribution": self.n_with_distribution, "untold": self.n_untold,
                "tokens": self.n_tokens,
                "tokens_with_distribution": self.n_tokens_with_distribution,
                **({"tokens_cut_otherwise": self.n_tokens_cut_otherwise} if self._across else {})}

    def tell(self) -> None:
        """Warn of what is experimental, and where much is learned as by ``sft``."""
        if self._across:
            log.warning("Stage %s: train.objective is logits across vocabularies, which is experimental: compare with "
                        "sft before you rely on it. Of %s tokens of free answers, %s are learned with the teacher's "
                        "distribution, the others (%s are no single token to the teacher) as by sft.", self._named,
                        *(f"{n:,}" for n in (self.n_tokens, self.n_tokens_with_distribution,
                                             self.n_tokens_cut_otherwise)))
            return
        if self.n_tokens_with_distribution < _FEW * self.n_tokens:
            log.warning("Stage %s: %s of %s tokens of free answers are learned with the teacher's distribution "
                        "(train.objective: logits), the others as by sft%s.", self._named,
                        f"{self.n_tokens_with_distribution:,}", f"{self.n_tokens:,}",
                        f"; {self._other}" if self._other else "")

    def why_none(self) -> str:
        """Say that no row has a distribution, and why that may be."""
        if not self.n_rows:
            return (f"no row of stage {self._named} has a free answer: use train.objective labels, which learns "
                    "distributions over labels, or sft")
        return (f"of the {self.n_rows} rows of stage {self._named} with free answers, none has the teacher's "
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


def top_inputs(run: Path, learning: Mapping[str, LogitsObjective]) -> dict[str, Any]:
    """Return what decides the log-probabilities in the rows, for the fingerprint of a stage; nothing where none is."""
    if not learning:
        return {}
    across = sorted(stage for stage, one in learning.items() if one.across_vocabularies)
    return {"top_targets": {**{stage: TOP.digest(run / stage / RESPONSES) for stage in learning},
                            **({"across_vocabularies": across} if across else {})}}
