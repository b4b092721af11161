"""Invariants of shards and journals: who belongs where whatever the order, and what a torn file leaves."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import RunError
from distill.generation.journal import Journal
from distill.generation.plan import Plan, PromptFile, in_engine_order, plan_shards
from distill.run.hashing import content_id, id_hash
from distill.run.records import Prompt, write_records
from tests.support.generation import prompts_of, slice_of, written

_IDS = st.lists(st.text("0123456789abcdef", min_size=1, max_size=6), unique=True, max_size=60)


def planned(folder: Path, ids: list[str], size: int) -> tuple[Path, Plan]:
    path = written(folder, [Prompt(key, "t", "knowdist", "kind", f"Prompt {key}") for key in ids])
    return path, plan_shards(path, size)


@given(_IDS, st.integers(1, 9))
def test_every_prompt_is_in_one_shard_and_no_shard_is_over_twice_its_size(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], size: int
) -> None:
    path, plan = planned(tmp_path_factory.mktemp("plan"), ids, size)
    prompts = PromptFile(path)
    held = [[prompt.id for prompt in prompts.load(shard.first, shard.count)] for shard in plan.shards]
    prompts.close()
    assert sorted(key for shard in held for key in shard) == sorted(ids) and plan.rows == len(ids)
    assert all(0 < shard.count <= 2 * size for shard in plan.shards)
    assert [shard.prefix for shard in plan.shards] == sorted(shard.prefix for shard in plan.shards)
    for shard, keys in zip(plan.shards, held, strict=True):
        assert all(format(id_hash(key), "064b").startswith(shard.prefix) for key in keys)


@given(_IDS, st.text("xyz", min_size=1, max_size=3), st.integers(1, 9))
def test_a_changed_prompt_changes_its_shard_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], more: str, size: int
) -> None:
    folder = tmp_path_factory.mktemp("plan")
    _, before = planned(folder, ids, size)
    path = written(folder, [Prompt(key, "t", "knowdist", "kind", f"Prompt {key}" + (more if key == min(ids) else ""))
                            for key in ids])
    after = plan_shards(path, size)
    changed = [one for one, other in zip(before.shards, after.shards, strict=True) if one != other]
    assert len(changed) == (1 if ids else 0) and (before.digest != after.digest) == bool(ids)


def test_shards_are_as_few_as_a_power_of_two_allows(tmp_path: Path) -> None:
    _, plan = planned(tmp_path, [content_id(str(n)) for n in range(10_000)], 2_000)
    assert len(plan.shards) == 8
    assert all(900 < shard.count < 1_600 for shard in plan.shards)


def test_two_prompts_with_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="same id"):
        planned(tmp_path, ["a", "b", "a"], 10)


def test_prompts_in_another_order_are_refused(tmp_path: Path) -> None:
    prompts = sorted(prompts_of(9), key=lambda item: id_hash(item.id), reverse=True)
    write_records(tmp_path / "knowdist.parquet", Prompt, prompts)
    with pytest.raises(RunError, match="not in the order"):
        plan_shards(tmp_path / "knowdist.parquet", 4)


def test_prompts_that_share_instructions_are_neighbours() -> None:
    kinds = [item.kind for item in in_engine_order(prompts_of(30))]
    assert len(kinds) == 30 and kinds == sorted(kinds)


@given(st.integers(1, 400))
def test_a_torn_journal_keeps_its_whole_slices(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder, "shard-00000", {"made": "so"})
    journal.add(slice_of("a", "b"), 1.0)
    journal.add(slice_of("c"), 2.0)
    journal.close()
    data = journal.path.read_bytes()
    journal.path.write_bytes(data[:-min(cut, len(data))])
    again = Journal(folder, "shard-00000", {"made": "so"})
    kept = list(again.responses)
    assert kept in ([], ["a", "b"])
    again.add(slice_of("d"), 1.0)
    again.close()
    once_more = Journal(folder, "shard-00000", {"made": "so"})
    assert list(once_more.responses.values()) == slice_of(*kept, "d")
    once_more.close()


def test_a_journal_of_other_settings_is_thrown_away(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "shard-00000", {"made": "so"})
    journal.add(slice_of("a"), 1.0)
    journal.close()
    other = Journal(tmp_path, "shard-00000", {"made": "otherwise"})
    assert not other.responses
    other.close()
    assert json.loads(other.path.read_text())["inputs"] == {"made": "otherwise"}
