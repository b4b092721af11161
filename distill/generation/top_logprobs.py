"""The teacher's likeliest tokens at each token of its free answers, kept beside these (``teacher.logprobs.top_k``)."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.config.sections.teacher import Logprobs
from distill.errors import InputError
from distill.generation.label_logprobs import LABELS, has_distribution
from distill.generation.manifests import read_markers
from distill.generation.sidecar import Sidecar
from distill.models.vocabulary import embeddings_of
from distill.run.records import Prompt
from distill.run.top_logprobs import TopLogprobs, read_tokens, read_top_logprobs, write_top_logprobs

log = logging.getLogger("sentidistill.generation")
USUAL_K = 20
Naming = Callable[[Sequence[int]], list[str]]
"""What a tokenizer calls ids; an empty string for one that it does not know."""


class TopSidecar(Sidecar[TopLogprobs]):
    """See :class:`distill.generation.sidecar.Sidecar`. With ``k`` 0, files of any number of tokens are read."""

    name, version, key = "top_logprobs", 1, "teacher.logprobs.top_k"
    title = "log-probabilities of tokens"

    def __init__(self, k: int = 0, naming: Naming | None = None) -> None:
        """``naming`` is needed to write a file."""
        self.k, self._naming = k, naming

    def is_of(self, prompt: Prompt) -> bool:
        """Say whether an answer is free: what is answered by one label of a list has a distribution over these."""
        return not has_distribution(prompt)

    def settings(self) -> dict[str, Any]:
        """Return how many tokens are kept."""
        return {"top_k": self.k}

    def suffices(self, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
        """More tokens than wanted do, too."""
        k = inputs.get("top_k")
        return {"top_k": k} if isinstance(k, int) and k >= self.k else None

    def write(self, path: Path, records: Sequence[TopLogprobs]) -> int:
        """Write the records, and what the ids that occur are."""
        assert self._naming is not None
        parts = [part.ravel() for record in records for part in (record.token_ids, record.top_ids)]
        ids = np.unique(np.concatenate(parts)).tolist() if parts else []
        write_top_logprobs(path, records, dict(zip(ids, self._naming(ids), strict=True)))
        return sum(map(len, records))

    def read(self, path: Path) -> Iterator[TopLogprobs]:
        """Yield the records of a file."""
        return read_top_logprobs(path)

    def is_told(self, record: TopLogprobs) -> bool:
        """Say whether there is one."""
        return len(record) > 0


TOP = TopSidecar()
"""To read what there is."""
SIDECARS: tuple[Sidecar[Any], ...] = (LABELS, TOP)


def wanted_sidecars(logprobs: Logprobs, stage: str) -> tuple[Sidecar[Any], ...]:
    """Return what is to be kept beside the answers of a stage: analyses and rewritings have no labels."""
    return (*([LABELS] if logprobs.labels and stage == "icldist" else []),
            *([TopSidecar(logprobs.top_k)] if logprobs.top_k else []))


def tokens_of(responses: Path) -> dict[int, str]:
    """Return what the teacher's tokenizer calls each id that occurs beside a stage's answers.

    Raises:
        RunError: a file is damaged.
    """
    found: dict[int, str] = {}
    for path in TOP.paths(responses):
        found.update(read_tokens(path))
    return found


def bytes_a_token(k: int) -> int:
    """Return the bytes that a token takes before compression: ids of 4, log-probabilities of 2."""
    return 4 + 6 * k + 2


def tell_of_later(responses: Path, lacking: Mapping[str, Sequence[Sidecar[Any]]]) -> None:
    """Say what finished answers get later, what of it is made again, and what it takes."""
    markers = read_markers(responses)
    for name, sidecars in lacking.items():
        for sidecar in sidecars:
            sidecar.warn_of_stale(responses, name)
    tops = {name: one.k for name, sidecars in lacking.items() for one in sidecars if isinstance(one, TopSidecar)}
    if tops:
        n_tokens = sum(markers[name].n_output_tokens for name in tops)
        n_bytes = sum(markers[name].n_output_tokens * bytes_a_token(k) for name, k in tops.items())
        log.info("%s finished answers get the log-probabilities of their tokens, without being asked for again: at "
                 "most %s tokens, about %.3g MB before compression, and the time of a pass over them and the prompts.",
                 f"{sum(markers[name].n_out for name in tops):,}", f"{n_tokens:,}", n_bytes / 1e6)


def refuse_more_than_vocabulary(k: int | None, weights: Path | None) -> None:
    """Raise where more tokens are to be kept than the teacher knows, as far as its files tell.

    Raises:
        InputError: see above.
    """
    size = embeddings_of(weights) if k and weights else None
    if k and size is not None and k > size:
        raise InputError(f"teacher.logprobs.top_k is {k}, but the teacher in {weights} has a vocabulary of {size} "
                         "tokens. Lower it; 20 is usual.")
