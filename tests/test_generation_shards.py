"""Invariants of shards and journals: who belongs where whatever the order, and what a torn file leaves."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import RunError
from distill.generation.journal import Journal
from distill.generation.shards import PromptSet, split_by_hash
from distill.hashing import content_id
from tests.generation_helpers import prompts_of, slice_of, written

_IDS = st.lists(st.text("0123456789abcdef", min_size=1, max_size=6), unique=True, max_size=60)


@given(_IDS, st.integers(1, 9), st.randoms(use_true_random=False))
def test_a_shard_depends_on_the_set_of_ids_and_not_on_their_order(ids: list[str], size: int, random: Any) -> None:
    def named(some: list[str]) -> list[tuple[str, list[str]]]:
        return [(prefix, sorted(some[row] for row in rows)) for prefix, rows in split_by_hash(some, size)]

    shuffled = random.sample(ids, len(ids))
    assert named(ids) == named(shuffled)


@given(_IDS, st.integers(1, 9))
def test_every_id_is_in_one_shard_and_no_shard_is_over_twice_its_size(ids: list[str], size: int) -> None:
    groups = split_by_hash(ids, size)
    assert sorted(row for _, rows in groups for row in rows) == list(range(len(ids)))
    assert all(0 < len(rows) <= 2 * size for _, rows in groups)
    prefixes = [prefix for prefix, _ in groups]
    assert prefixes == sorted(prefixes)


def test_shards_are_as_few_as_a_power_of_two_allows() -> None:
    groups = split_by_hash([content_id(str(n)) for n in range(10_000)], 2_000)
    assert len(groups) == 8
    assert all(900 < len(rows) < 1_600 for _, rows in groups)


def test_two_prompts_with_one_id_are_refused() -> None:
    with pytest.raises(RunError, match="same id"):
        split_by_hash(["a", "b", "a"], 10)


def test_prompts_that_share_instructions_are_neighbours(tmp_path: Path) -> None:
    prompts = PromptSet(written(tmp_path, prompts_of(30)), 100)
    kinds = [item.kind for item in prompts.load(prompts.shards[0])]
    assert len(kinds) == 30 and kinds == sorted(kinds)


@given(st.integers(1, 400))
def test_a_torn_journal_keeps_its_whole_slices(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder, "shard-00000", "mark")
    journal.add(slice_of("a", "b"), 1.0)
    journal.add(slice_of("c"), 2.0)
    journal.close()
    data = journal.path.read_bytes()
    journal.path.write_bytes(data[:-min(cut, len(data))])
    again = Journal(folder, "shard-00000", "mark")
    kept = [item.prompt_id for item in again.responses]
    assert kept in ([], ["a", "b"])
    again.add(slice_of("d"), 1.0)
    again.close()
    once_more = Journal(folder, "shard-00000", "mark")
    assert once_more.responses == slice_of(*kept, "d")
    once_more.close()


def test_a_journal_of_other_settings_is_thrown_away(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "shard-00000", "mark")
    journal.add(slice_of("a"), 1.0)
    journal.close()
    other = Journal(tmp_path, "shard-00000", "another")
    assert other.responses == []
    other.close()
    assert json.loads(other.path.read_text()) == {"fingerprint": "another"}
