"""Decontaminate: texts that stand in the benchmark leave the corpus (Section 4.1)."""

from collections.abc import Iterable, Iterator
from itertools import islice

from distill.corpus.normalize import normal_form
from distill.corpus.simhash import NearIndex
from distill.corpus.sketch import Candidate, normal_key, simhashes
from distill.corpus.step import Step
from distill.errors import InputError

_BATCH = 512
_SHOWN_CHARS = 80


class BenchmarkIndex:
    """The benchmark's texts, findable by normal form and by simhash."""

    def __init__(self, texts: Iterable[str], max_distance: int) -> None:
        """Index the texts of all splits; ``max_distance`` is in simhash bits.

        Raises:
            InputError: there are none, so that nothing would be taken out.
        """
        from tqdm import tqdm

        self._exact: dict[bytes, str] = {}
        self._near = NearIndex(max_distance)
        self._near_texts: list[str] = []
        iterator = iter(texts)
        with tqdm(desc="corpus: benchmark texts", unit="text", disable=None) as bar:
            while batch := list(islice(iterator, _BATCH)):
                self._add(batch)
                bar.update(len(batch))
        if not self._exact:
            raise InputError("There are no benchmark texts to keep out of the corpus. Check evaluate.data_dir, "
                             "or set corpus.decontaminate.enabled to false.")

    def _add(self, texts: list[str]) -> None:
        new: dict[str, str] = {}
        for text in texts:
            normal = normal_form(text)
            key = normal_key(normal)
            if key not in self._exact:
                self._exact[key] = new[normal] = text[:_SHOWN_CHARS]
        for value, shown in zip(simhashes(list(new)), new.values(), strict=True):
            if value is not None:
                self._near.add(value)
                self._near_texts.append(shown)

    def find(self, candidate: Candidate) -> tuple[str, str] | None:
        """Return (reason, detail) if the candidate stands in the benchmark: ``benchmark_exact``, ``benchmark_near``."""
        if candidate.key in self._exact:
            return "benchmark_exact", f"benchmark text '{self._exact[candidate.key]}'"
        found = self._near.nearest(candidate.simhash) if candidate.simhash is not None else None
        if found is None:
            return None
        return "benchmark_near", f"simhash distance {found[0]} to benchmark text '{self._near_texts[found[1]]}'"


def decontaminate(candidates: Iterable[Candidate], benchmark: BenchmarkIndex | None, step: Step) -> Iterator[Candidate]:
    """Yield the candidates that do not stand in the benchmark; drop and count the others.

    Exact after normalisation first, then near by simhash; a text shorter than
    :data:`distill.corpus.normalize.MIN_NEAR_CHARS` in normal form is compared exactly only. A benchmark text
    that is a part of a longer text is not found. With ``benchmark`` None everything passes.
    """
    for candidate in candidates:
        step.take()
        found = benchmark.find(candidate) if benchmark else None
        if found:
            step.drop(candidate.text.id, *found, candidate.text.text)
            continue
        step.give()
        yield candidate
