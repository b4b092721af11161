"""Fingerprints are those of the simhash package; near pairs are all found and none invented; the same texts stay."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simhash import Simhash

from distill.corpus.deduplication.dedup import decide
from distill.corpus.deduplication.near_pairs import (
    NearIndex,
    keep_first,
    keep_one_of_each_cluster,
    near_pairs,
    plan,
    table_masks,
)
from distill.corpus.deduplication.simhash import fingerprints, shingle_hash
from distill.corpus.deduplication.sketch import sketch

WORDS = st.integers(0, 2**64 - 1)
ODD = ["", "a", "ab", "abc", "abcd", "ΑΣ ΣΑΣ ας", "İstanbul", "gr\u00fc\u00dfe\u6f22\u5b57",
       "👍🏽 ok", "e\u0301", "x" * 70, "_", "١٢٣٤٥"]


class Oracle(Simhash):
    """The package's own, but for features that stand 256 times in a text: with NumPy 2 it fails on those."""

    large_weight_cutoff = 1 << 30


def oracle(text: str) -> int:
    return Oracle(text, hashfunc=shingle_hash).value


def clusters_of(seed: int, n: int, max_distance: int) -> np.ndarray:
    """Return values of which many are a few bits from others."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2**64, max(1, n // 8), dtype=np.uint64)[rng.integers(0, max(1, n // 8), n)]
    for _ in range(max_distance + 2):
        flips = np.uint64(1) << rng.integers(0, 64, n, dtype=np.uint64)
        values = values ^ np.where(rng.random(n) < 0.5, flips, np.uint64(0))
    return values


def distances(values: np.ndarray) -> np.ndarray:
    return np.bitwise_count(values[:, None] ^ values[None, :]).astype(int)


# ---------------------------------------------------------------- fingerprints


def test_fingerprints_are_those_of_the_simhash_package_for_odd_texts() -> None:
    values = fingerprints(ODD)
    assert values.dtype == np.uint64
    assert values.tolist() == [oracle(text) for text in ODD]
    assert fingerprints([]).shape == (0,)
    assert len(set(fingerprints(["abcd", "abdc", "bacd", "abc", "ab"]).tolist())) == 5


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), max_size=20))
def test_fingerprints_are_those_of_the_simhash_package_for_any_text(texts: list[str]) -> None:
    assert fingerprints(texts).tolist() == [oracle(text) for text in texts]


def test_every_character_is_lowered_and_chosen_as_the_package_does() -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    texts = ["".join(characters[at:at + 61]) for at in range(0, len(characters), 61)]
    assert len(texts) > 18_000
    assert fingerprints(texts[:900]).tolist() == [oracle(text) for text in texts[:900]]
    # Beyond the first 55,000 code points most blocks hold no letters at all; those that do are looked at.
    some = [text for text in texts[900:] if any(character.isalnum() for character in text)][::5]
    assert fingerprints(some).tolist() == [oracle(text) for text in some]


def test_fingerprints_of_20_000_real_texts_are_those_of_the_simhash_package(shared_dir: Path) -> None:
    tweets = (shared_dir / "corpus" / "tweets.txt").read_text(encoding="utf-8").split("\n")
    reviews = (shared_dir / "corpus" / "imdb.csv").read_text(encoding="utf-8").split("\n")[:300]
    texts = [*tweets, *reviews]
    assert len(texts) > 20_000
    assert fingerprints(texts).tolist() == [oracle(text) for text in texts]


def test_a_lone_surrogate_is_refused_not_misread() -> None:
    with pytest.raises(UnicodeEncodeError):
        fingerprints(["lone \ud800 surrogate"])


def test_kernels_work_where_the_cache_cannot_be_written_to(tmp_path: Path) -> None:
    code = "from distill.corpus.deduplication.simhash import fingerprints; print(fingerprints(['a text']).tolist())"
    environment = {**os.environ, "SENTIDISTILL_CACHE": "/proc/nowhere", "TMPDIR": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)  # set in this process by the kernels themselves
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(fingerprints(["a text"]).tolist()), done.stderr
    assert list(tmp_path.glob("sentidistill-numba-*"))


# ---------------------------------------------------------------- near pairs


@pytest.mark.parametrize("max_distance", range(9))
@pytest.mark.parametrize("n", [0, 1, 2, 1500])
def test_near_pairs_are_those_of_comparing_all(max_distance: int, n: int) -> None:
    values = clusters_of(max_distance, n, max_distance)
    found = [tuple(pair) for piece in near_pairs(values, max_distance) for pair in piece.tolist()]
    wanted = set(map(tuple, np.argwhere(np.triu(distances(values) <= max_distance, 1)).tolist()))
    assert set(found) == wanted
    assert len(found) == len(wanted), "a pair came twice"


def test_near_pairs_of_20_000_real_fingerprints_are_those_of_comparing_all(shared_dir: Path) -> None:
    texts = (shared_dir / "corpus" / "tweets.txt").read_text(encoding="utf-8").split("\n")[:20_000]
    values = fingerprints(texts)
    found = {tuple(pair) for piece in near_pairs(values, 3) for pair in piece.tolist()}
    wanted = set()
    for place, value in enumerate(values):
        near = np.flatnonzero(np.bitwise_count(values[place + 1:] ^ value) <= 3)
        wanted.update((place, place + 1 + int(other)) for other in near)
    assert found == wanted
    assert len(wanted) > 100


def test_pairs_come_in_pieces_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.corpus.deduplication.near_pairs._PAIRS_AT_ONCE", 7)
    values = clusters_of(3, 300, 3)
    pieces = list(near_pairs(values, 3))
    assert max(len(piece) for piece in pieces) == 7
    assert sum(map(len, pieces)) == int(np.triu(distances(values) <= 3, 1).sum())


@given(st.integers(1, 6).flatmap(lambda blocks: st.tuples(st.just(blocks), st.integers(0, blocks - 1))),
       st.sets(st.integers(0, 63), max_size=5))
def test_two_near_values_agree_under_some_mask(plan_of: tuple[int, int], bits: set[int]) -> None:
    n_blocks, max_distance = plan_of
    difference = np.uint64(sum(1 << bit for bit in list(bits)[:max_distance]))
    assert np.any(table_masks(n_blocks, max_distance) & difference == 0)


def test_values_that_share_their_first_block_are_sorted_by_more_of_them() -> None:
    spread = np.random.default_rng(0).integers(0, 2**64, 50_000, dtype=np.uint64)
    assert len(plan(spread, 3)) == 4
    assert len(plan(spread & ~np.uint64(0xFFFFFFFF), 3)) > 4


@given(WORDS, st.sets(st.integers(0, 63), max_size=8), st.integers(0, 8))
def test_a_neighbour_is_found_exactly_when_it_is_near(value: int, bits: set[int], max_distance: int) -> None:
    index = NearIndex(np.array([value], np.uint64), max_distance)
    places, found = index.nearest(np.array([value ^ sum(1 << bit for bit in bits)], np.uint64))
    near = len(bits) <= max_distance
    assert places.tolist() == ([0] if near else [-1])
    assert found.tolist() == [len(bits) if near else max_distance + 1]


@pytest.mark.parametrize("max_distance", [0, 3, 8])
def test_the_nearest_is_that_of_comparing_with_all(max_distance: int) -> None:
    values = clusters_of(1, 1000, max_distance)
    queries = np.concatenate([clusters_of(1, 1000, max_distance + 1)[:200], values[-50:]])
    between = np.bitwise_count(queries[:, None] ^ values[None, :]).astype(int)
    places, found = NearIndex(values, max_distance).nearest(queries)
    near = between.min(axis=1) <= max_distance
    assert places.tolist() == np.where(near, between.argmin(axis=1), -1).tolist()
    assert found[near].tolist() == between.min(axis=1)[near].tolist()
    assert NearIndex(values[:0], max_distance).nearest(queries)[0].tolist() == [-1] * len(queries)


# ---------------------------------------------------------------- what stays


def plain_loop(values: np.ndarray, max_distance: int) -> list[int]:
    kept: list[int] = []
    for place, value in enumerate(values):
        if not np.any(np.bitwise_count(values[kept] ^ value) <= max_distance):
            kept.append(place)
    return kept


@pytest.mark.parametrize("max_distance", range(9))
def test_the_first_stay_as_in_the_plain_loop(max_distance: int) -> None:
    for n in (0, 1, 60, 1500):
        values = clusters_of(n, n, max_distance)
        found = keep_first(values, max_distance)
        assert np.flatnonzero(found.kept).tolist() == plain_loop(values, max_distance)
        between = distances(values)
        assert n < 1500 or not found.kept.all()
        for place in np.flatnonzero(~found.kept).tolist():
            assert found.kept[found.by[place]] and found.by[place] < place
            assert between[place, found.by[place]] <= max_distance


@pytest.mark.parametrize("max_distance", [0, 2, 5])
def test_one_of_each_chain_of_near_values_stays(max_distance: int) -> None:
    values = clusters_of(4, 600, max_distance)
    between = distances(values) <= max_distance
    labels = np.arange(len(values))
    for _ in range(len(values)):
        lowest = np.where(between, labels[None, :], len(values)).min(axis=1)
        if np.array_equal(lowest, labels):
            break
        labels = lowest
    found = keep_one_of_each_cluster(values, max_distance)
    assert np.flatnonzero(found.kept).tolist() == sorted(set(labels.tolist()))
    assert np.where(found.kept, np.arange(len(values)), found.by).tolist() == labels.tolist()


TEXTS = st.lists(st.sampled_from(
    [f"{start} text that is long enough to be compared by its simhash, number {n}{end}" for start, n, end in
     itertools.product(["A", "a", "Some"], [1, 2, 30], ["", "!", " indeed"])] + ["", "ok", "OK!", "?"]), max_size=30)


@given(TEXTS, st.randoms(use_true_random=False), st.sampled_from(["first", "longest"]),
       st.sampled_from(["greedy", "clusters"]), st.integers(0, 8))
def test_what_stays_does_not_depend_on_the_order(texts, random, keep, group, max_distance) -> None:
    shuffled = list(texts)
    random.shuffle(shuffled)
    kept = []
    for order in (texts, shuffled):
        found = decide(sketch(order), max_distance, keep, group)
        kept.append(sorted(text for text, stays in zip(order, found.kept, strict=True) if stays))
        assert all(found.kept[found.by[place]] for place in np.flatnonzero(~found.kept))
    assert kept[0] == kept[1]
    assert len(kept[0]) == len(set(kept[0]))


def test_the_longest_of_near_texts_stays_if_asked() -> None:
    short = "A text that is long enough to be compared by its simhash, and then some more words to be safe " * 4
    texts = [short, short + "now"]
    assert np.bitwise_count(fingerprints(texts)[0] ^ fingerprints(texts)[1]) <= 3
    assert decide(sketch(texts), 3, "longest").kept.tolist() == [False, True]
    assert decide(sketch(texts[::-1]), 3, "longest").kept.tolist() == [True, False]


def test_a_million_equal_or_empty_texts_are_no_million_pairs() -> None:
    sketches = sketch([""] * 300_000 + ["the same text over and over, longer than what is compared exactly"] * 700_000)
    found = decide(sketches, 3)
    assert int(found.kept.sum()) == 2
    # Different normal forms of one simhash: all that differs is no word character, in texts too long for that to count.
    alike = sketch([f"{'the same words again and again, ' * 20}{'☀☁☂'[n % 3]}{'★☆✪'[n % 7 % 3]}"
                    for n in range(1000)])
    assert int(decide(alike, 3).kept.sum()) == 1
