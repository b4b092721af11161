"""The fingerprint index misses no near pair and invents none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.corpus.simhash import NearIndex, fingerprints

WORDS = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize("max_distance", [0, 1, 3, 8])
def test_the_index_agrees_with_comparing_all_pairs(max_distance: int) -> None:
    rng = np.random.default_rng(5)
    values = rng.integers(0, 2**64, 1000, dtype=np.uint64)
    flips = np.zeros(1000, dtype=np.uint64)
    for _ in range(max_distance + 2):
        flips ^= np.where(rng.random(1000) < 0.7, np.uint64(1) << rng.integers(0, 64, 1000, dtype=np.uint64), 0)
    values = np.concatenate([values, values ^ flips])
    index = NearIndex(max_distance)
    near = 0
    for place, value in enumerate(values.tolist()):
        found = index.nearest(value)
        if place:
            distances = np.bitwise_count(values[:place] ^ np.uint64(value))
            at = int(distances.argmin())
            assert found == ((int(distances[at]), at) if distances[at] <= max_distance else None)
            near += found is not None
        assert index.add(value) == place
    assert 10 < near < 1000
    assert len(index) == 2000


@given(WORDS, st.sets(st.integers(0, 63), max_size=8), st.integers(0, 8))
def test_a_neighbour_is_found_exactly_when_it_is_near(value: int, bits: set[int], max_distance: int) -> None:
    index = NearIndex(max_distance)
    index.add(value)
    found = index.nearest(value ^ sum(1 << bit for bit in bits))
    assert found == ((len(bits), 0) if len(bits) <= max_distance else None)


def test_fingerprints_are_those_of_the_simhash_package() -> None:
    from simhash import Simhash

    texts = ["thesoupwascoldwhenitcameandthewaitershrugged", "gr\u00fc\u00dfe\u6f22\u5b57", "a"]
    values = fingerprints(texts)
    assert values.dtype == np.uint64
    assert values.tolist() == [Simhash(text).value for text in texts]
    assert fingerprints([]).shape == (0,)
