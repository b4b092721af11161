"""Decontaminate: texts that stand in the benchmark leave the corpus (Section 4.1), and what was found is reported."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distill.corpus.decontamination.containment import MIN_WORDS, Contained, word_counts
from distill.corpus.decontamination.overlap import Overlapping
from distill.corpus.deduplication.near_pairs import NearIndex
from distill.corpus.deduplication.simhash import fingerprints
from distill.corpus.normalize import MIN_NEAR_CHARS, Normalized, normalized
from distill.corpus.personal import excerpt
from distill.corpus.text_arrays import text_array, utf8
from distill.errors import InputError
from distill.run.records import BenchmarkText

RULES = ("benchmark_exact", "benchmark_contained", "benchmark_fragment", "benchmark_near", "benchmark_overlap")
"""Why a text goes, in this order: it has the normal form of a benchmark text; holds one of 8 words or more; is itself
of 8 words or more and a piece of one; its simhash is near one's; or they share shingles of some two and a half words
(:mod:`.overlap`): 5 that are 60% of those of the shorter text, 6 that are 40%, or 7 or more that are
25%."""
_SHOWN_CHARS = 80
_MOST_EXAMPLES = 5


@dataclass(frozen=True)
class Found:
    """What was found in n texts: ``rules`` (n,) int8, the place in RULES or -1; ``places`` (n,) of a benchmark text."""

    rules: np.ndarray
    places: np.ndarray
    distances: np.ndarray


class BenchmarkIndex:
    """The benchmark's texts, findable by normal form, as parts and wholes of others, and by simhash."""

    def __init__(self, texts: Iterable[BenchmarkText], max_distance: int) -> None:
        """Index the texts of all splits; ``max_distance`` is in simhash bits.

        Raises:
            InputError: there are none, so that nothing would be taken out.
        """
        given = list(texts)
        if not given:
            raise InputError("There are no benchmark texts to keep out of the corpus. Check evaluate.data_dir, "
                             "or set corpus.decontaminate.enabled to false.")
        array = text_array([item.text for item in given])
        forms = normalized(array, marks=False)
        _, first, group = np.unique(_keys(forms), axis=0, return_index=True, return_inverse=True)
        group = group.reshape(-1)
        # One entry for each normal form, however many benchmarks hold it.
        self._origins: list[Counter[tuple[str, str]]] = [Counter() for _ in first]
        for place, item in zip(group.tolist(), given, strict=True):
            self._origins[place][item.benchmark, item.split] += 1
        self._texts = [given[place].text[:_SHOWN_CHARS] for place in first.tolist()]
        entries = normalized(array.take(pa.array(first)), marks=False)
        self._normals = entries.forms
        self._exact = {key.tobytes(): place for place, key in enumerate(_keys(entries))}
        self._contained = Contained(self._normals, word_counts(array)[first] >= MIN_WORDS)
        self._overlapping = Overlapping(entries)
        self._near_places = np.flatnonzero(_is_long(self._normals))
        self._near = NearIndex(fingerprints(self._normals)[self._near_places], max_distance)
        self._seen = np.zeros((len(first), len(RULES)), np.bool_)
        self._examples: dict[tuple[str, str], list[dict[str, str]]] = {}

    def find(self, texts: pa.Array, mask: bool = False) -> Found:
        """Say of each text whether it stands in the benchmark, and note which benchmark texts were seen.

        With ``mask`` personal data are masked in the examples of the report.
        """
        n = len(texts)
        rules, places = np.full(n, -1, np.int8), np.full(n, -1, np.int64)
        forms = normalized(texts, marks=False)
        near_places, distances = self._near.nearest(fingerprints(forms.forms))
        pieces = Contained(forms.forms, word_counts(texts) >= MIN_WORDS)
        holders = held = whole = part = np.zeros(0, np.int64)
        if len(self._contained):
            holders, held = self._contained.find_in(forms.forms)
        if len(pieces):
            whole, part = pieces.find_in(self._normals)
        exact = np.array([self._exact.get(key.tobytes(), -1) for key in _keys(forms)], np.int64)
        near = (near_places >= 0) & _is_long(forms.forms) & (exact < 0)
        matches = (
            (np.flatnonzero(exact >= 0), exact[exact >= 0]), (holders, held), (part, whole),
            (np.flatnonzero(near), self._near_places[near_places[near]]), self._overlapping.find(forms))
        known: set[tuple[int, int]] = set()
        for rule, (found, entries) in enumerate(matches):
            for text, entry in zip(found.tolist(), entries.tolist(), strict=True):
                if rule == len(RULES) - 1 and (text, entry) in known:
                    continue  # what is the same, or holds the other, overlaps with it anyway
                known.add((text, entry))
                self._seen[entry, rule] = True
                self._note(entry, rule, texts[text], mask)
                if rules[text] < 0:
                    rules[text], places[text] = rule, entry
        return Found(rules, places, distances)

    def detail(self, found: Found, text: int) -> str:
        """Say of one text what was found."""
        place, rule = int(found.places[text]), RULES[found.rules[text]]
        origin = ", ".join(sorted({f"{name} {split}".strip() for name, split in self._origins[place]}))
        distance = f"simhash distance {found.distances[text]}; " if rule == "benchmark_near" else ""
        return f"{distance}{origin} '{self._texts[place]}'"

    def report(self) -> dict[str, Any]:
        """Return by benchmark and split how many texts it has, how many were seen by which rule, and examples."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for place, origins in enumerate(self._origins):
            for key, count in origins.items():
                row = rows.setdefault(key, {"benchmark": key[0], "split": key[1], "texts": 0, "seen": 0,
                                            **dict.fromkeys(RULES, 0)})
                row["texts"] += count
                row["seen"] += count * bool(self._seen[place].any())
                for rule, seen in zip(RULES, self._seen[place], strict=True):
                    row[rule] += count * bool(seen)
        return {"rules": "a benchmark text that was seen by several rules counts once in 'seen' and under each rule",
                "benchmarks": [{**row, "examples": self._examples.get(key, [])} for key, row in sorted(rows.items())]}

    def _note(self, place: int, rule: int, text: Any, mask: bool) -> None:
        for key in self._origins[place]:
            examples = self._examples.setdefault(key, [])
            if sum(example["rule"] == RULES[rule] for example in examples) < _MOST_EXAMPLES:
                examples.append({"rule": RULES[rule], "benchmark_text": self._texts[place],
                                 "corpus_text": excerpt(text.as_py(), mask, _SHOWN_CHARS * 2)})


def _keys(forms: Normalized) -> np.ndarray:
    from distill.corpus.kernels.fingerprint import hash_texts

    hash_texts(*utf8(forms.forms), 0, keys := np.empty((len(forms.forms), 2), np.uint64))
    return keys


def _is_long(forms: pa.Array) -> np.ndarray:
    lengths: np.ndarray = pc.utf8_length(forms).to_numpy(zero_copy_only=False)
    return lengths >= MIN_NEAR_CHARS
