"""Prompts as a stream: the same files in any order, with any sizes and processes, sorted, and in bounded memory."""

import json
import random
from collections import Counter
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.schema import Prompts
from distill.errors import ProcessDiedError, RunError
from distill.prompting.build import build_prompts
from distill.prompting.files import ROWS_A_GROUP, read_prompts
from distill.prompting.order import TextOrder
from distill.prompting.samples import sample_prompts
from distill.prompting.writer import USUAL_SIZES, Sizes
from distill.run.external_sort import Buckets, bucket_numbers
from distill.run.folder import claim
from distill.run.hashing import content_id, id_hash
from distill.run.records import Text, write_records
from distill.runtime.process_pool import workers
from tests.prompting.test_prompting import make_texts
from tests.prompting.test_stage import stored, word_limits
from tests.prompting.test_tasks import write_task

FILES = ("knowdist.parquet", "icldist.parquet", "dropped.parquet")


def write_texts(path: Path, texts: list[Text], rows: int = 50) -> Path:
    write_records(path, Text, texts, chunk=rows)
    return path


def config(tmp_path: Path, knowdist: int = 150, icldist: int = 100, **more) -> Prompts:
    if not (tmp_path / "tasks").exists():
        write_task(tmp_path / "tasks" / "one.json")
    return Prompts.model_validate({
        "knowdist": {"samples": knowdist}, "icldist": {"samples": icldist, "prompts_per_text": 2},
        "general": {"samples": 20, "path": str(tmp_path / "tasks")}, **more})


def build(tmp_path: Path, name: str, texts: list[Text], sizes: Sizes = USUAL_SIZES, **more):
    outcome = build_prompts(config(tmp_path, **more), write_texts(tmp_path / f"{name}.parquet", texts), 42,
                            tmp_path / name, word_limits(student=250), {}, sizes=sizes)
    return outcome, {file: sha256((tmp_path / name / "prompts" / file).read_bytes()).hexdigest() for file in FILES}


def mixed_texts(n: int) -> list[Text]:
    """Texts of very different lengths, some of which fit with few demonstrations, or not at all."""
    found = [" ".join(f"word{i}{k}" for k in range(i * 7 % 300)) + f" end {i}." for i in range(n)]
    return [Text(content_id(text), text, "film", "test") for text in found]


# ---------------------------------------------------------------- the same files, whatever else is different


@pytest.mark.parametrize("sizes", [Sizes(texts=1, memory=3000), Sizes(texts=7, memory=20_000), Sizes(texts=10_000)])
def test_the_files_do_not_depend_on_the_order_of_the_texts_nor_on_sizes(tmp_path, sizes):
    texts = mixed_texts(200)
    outcome, expected = build(tmp_path, "a", texts)
    assert all(counts.check().dropped.total() for counts in outcome.row_counts[:2])
    assert outcome.details["icldist"]["shortened"] > 10
    again, files = build(tmp_path, "b", random.Random(1).sample(texts, len(texts)), sizes)
    assert files == expected
    assert (again.row_counts, again.details) == (outcome.row_counts, outcome.details)


def test_the_files_do_not_depend_on_the_number_of_processes(tmp_path):
    texts = mixed_texts(200)
    one, expected = build(tmp_path, "a", texts, Sizes(texts=16), workers=1)
    two, files = build(tmp_path, "b", texts, Sizes(texts=16), workers=2)
    assert files == expected
    assert (two.row_counts, two.details) == (one.row_counts, one.details)
    same_inputs = build_prompts(config(tmp_path, workers=2), tmp_path / "a.parquet", 42, tmp_path / "a",
                                word_limits(student=250), {})
    assert same_inputs.reused  # how many processes there are decides nothing


def test_every_candidate_is_kept_or_dropped_and_every_drop_is_listed(tmp_path):
    outcome, _ = build(tmp_path, "run", mixed_texts(200), Sizes(texts=9, memory=5000))
    drops = Counter(stage for stage in pq.read_table(tmp_path / "run/prompts/dropped.parquet")["stage"].to_pylist())
    for counts in outcome.row_counts:
        family = counts.stage.partition("/")[2]
        stage = "knowdist" if family == "knowdist" else "icldist"
        kept = [prompt for prompt in stored(tmp_path / "run", stage) if prompt.family == family]
        assert counts.n_in == counts.n_out + counts.dropped.total() == len(kept) + drops[counts.stage]
        assert outcome.details[family]["texts"] == len({prompt.text_id for prompt in kept})
        assert outcome.details[family]["kinds"] == Counter(prompt.kind for prompt in kept)
    both = [{prompt.text_id for prompt in stored(tmp_path / "run", stage)} for stage in ("knowdist", "icldist")]
    assert outcome.details["texts_in_both_stages"] == len(both[0] & both[1])


def test_texts_used_by_both_stages_are_counted_by_their_prompts(tmp_path):
    outcome, _ = build(tmp_path, "run", mixed_texts(200), knowdist=5000, icldist=5000)
    both = [{prompt.text_id for prompt in stored(tmp_path / "run", stage)} for stage in ("knowdist", "icldist")]
    assert outcome.details["texts_in_both_stages"] == len(both[0] & both[1]) > 50


# ---------------------------------------------------------------- sorted files


def test_prompts_stand_in_the_order_of_their_ids_hashes_in_small_groups(tmp_path):
    build(tmp_path, "run", make_texts(900), Sizes(texts=50, memory=100_000), knowdist=1500, icldist=200)
    for stage, count in (("knowdist", 1500), ("icldist", 220)):
        keys = [(id_hash(prompt.id), prompt.id) for prompt in read_prompts(tmp_path / "run", stage)]
        assert len(keys) == count and all(one < other for one, other in pairwise(keys))
        metadata = pq.read_metadata(tmp_path / "run" / "prompts" / f"{stage}.parquet")
        sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
        assert sizes == [ROWS_A_GROUP] * (count // ROWS_A_GROUP) + [count % ROWS_A_GROUP]


# ---------------------------------------------------------------- bounded memory


def test_only_the_buckets_that_are_needed_are_filled_and_each_is_small(tmp_path):
    texts = mixed_texts(2000)
    path = write_texts(tmp_path / "texts.parquet", texts)
    size = sum(pq.read_metadata(path).row_group(n).total_byte_size for n in range(40))
    order = TextOrder(path, 42, tmp_path / "order", front=100, back=50, memory=size // 40)
    written = sum(file.stat().st_size for file in (tmp_path / "order").iterdir())
    assert len(order._there) <= 8 and written < size / 4
    assert all(order._buckets.sorted(n).nbytes < size / 10 for n in order._there)
    assert order._buckets._bytes <= size // 80  # what waits to be written
    front = [key for table in order.forwards() for key in table["id"].to_pylist()]
    assert len(order._there) == order._buckets.n >= 40  # the rest came when it was asked for
    back = [key for table in order.backwards() for key in table["id"].to_pylist()]
    whole = TextOrder(path, 42, tmp_path / "whole", front=2000, back=0)
    assert not list((tmp_path / "whole").iterdir())  # a small corpus stays in memory
    assert front == back[::-1] == [key for table in whole.forwards() for key in table["id"].to_pylist()]
    assert sorted(front) == sorted(text.id for text in texts) != front


def test_the_order_depends_on_the_seed_and_the_ids_alone(tmp_path):
    texts = make_texts(300)
    fewer = write_texts(tmp_path / "fewer.parquet", texts[::2])
    path = write_texts(tmp_path / "texts.parquet", texts)

    def order(source: Path, seed: int) -> list[str]:
        return [key for table in TextOrder(source, seed, tmp_path / "o", 9, 9).forwards()
                for key in table["id"].to_pylist()]

    left = {text.id for text in texts[::2]}
    assert order(fewer, 42) == [key for key in order(path, 42) if key in left]
    assert order(path, 42) != order(path, 43)


def test_temporary_files_are_gone_when_the_stage_ends_and_when_it_fails(tmp_path):
    for run in ("run", "bad"):
        claim(tmp_path / run)
    build(tmp_path, "run", mixed_texts(200), Sizes(texts=9, memory=3000))
    assert {path.name for path in (tmp_path / "run" / "prompts").iterdir()} == {
        *FILES, "prompt_files.json", "_done.json"}
    write_texts(tmp_path / "twice.parquet", make_texts(5) * 2)
    with pytest.raises(RunError, match=r"Two texts in .*twice\.parquet have the same id"):
        build_prompts(config(tmp_path), tmp_path / "twice.parquet", 42, tmp_path / "bad", word_limits(), {},
                      sizes=Sizes(texts=1, memory=100))
    assert not [path for path in (tmp_path / "bad" / "prompts").iterdir() if path.name.startswith(".")]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=60), st.integers(1, 500), st.integers(1, 4000))
def test_rows_come_out_of_buckets_sorted_and_all_of_them(tmp_path_factory, keys, n, pending):
    table = pa.table({"id": [f"{key % 7}" for key in keys], "n": list(range(len(keys)))},
                     schema=pa.schema([("id", pa.string()), ("n", pa.int64())]))
    buckets = Buckets(tmp_path_factory.mktemp("buckets"), table.schema, n, pending)
    for at in range(0, len(keys), 7):
        buckets.add(table.slice(at, 7), np.array(keys[at:at + 7], np.uint64))
    found = [row for number in range(n) for row in buckets.sorted(number)["n"].to_pylist()]
    assert [(keys[row], f"{keys[row] % 7}") for row in found] == sorted((key, f"{key % 7}") for key in keys)
    assert sorted(found) == list(range(len(keys)))
    assert [row for number in range(n) for row in buckets.sorted(number)["n"].to_pylist()] == found
    buckets.close()


def test_bucket_numbers_divide_the_keys_into_equal_ranges():
    keys = np.array([0, 2**62, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)
    assert bucket_numbers(keys, 2).tolist() == [0, 0, 0, 1, 1]
    assert bucket_numbers(keys, 500).tolist() == [0, 125, 249, 250, 499]


# ---------------------------------------------------------------- processes


class Adder:
    def __init__(self, start: int) -> None:
        self.start = start

    def __call__(self, number: int) -> int:
        if number == 13:
            import os

            os._exit(9)
        return self.start + number


@pytest.mark.parametrize("n", [1, 2])
def test_workers_map_a_stream_in_order_and_read_little_of_it_ahead(n):
    taken = []

    def stream():
        for number in range(14, 100):
            taken.append(number)
            yield (number,)

    with workers(n, Adder, 1000) as mapped:
        results = mapped(stream())
        assert [next(results) for _ in range(5)] == [1014, 1015, 1016, 1017, 1018]
        assert len(taken) <= 5 + 2 * n + 12
        assert list(results) == list(range(1019, 1100))


def test_a_process_that_dies_is_one_clear_error():
    with pytest.raises(ProcessDiedError, match=r"process .* died"), workers(2, Adder, 0) as mapped:
        list(mapped((number,) for number in range(20)))


# ---------------------------------------------------------------- samples


def test_samples_are_of_every_family_and_of_different_kinds_and_always_the_same(tmp_path):
    build(tmp_path, "run", make_texts(200))
    few = sample_prompts(tmp_path / "run", 5)
    assert [prompt.family for prompt in few] == ["knowdist", "knowdist", "icldist", "icldist", "general"]
    assert len({prompt.kind for prompt in few}) == 5
    assert {prompt.strategy for prompt in few[:2]} == {"analyze", "rewrite"}
    assert len({prompt.perspective for prompt in few[:2]}) == 2
    assert few == sample_prompts(tmp_path / "run", 5)
    many = sample_prompts(tmp_path / "run", 45)
    assert {prompt.kind for prompt in many if prompt.family == "icldist"} == {
        "sentiment/basic", "sentiment/lw", "sentiment/mi", "emotion/basic", "emotion/lt", "emotion/mi"}
    assert len({prompt.id for prompt in many}) == 45
    total = sum(json.loads((tmp_path / "run/prompts/_done.json").read_text())["details"][family]["built"]
                for family in ("knowdist", "icldist", "general"))
    assert len(sample_prompts(tmp_path / "run", 10_000)) == total


def test_samples_of_prompts_that_are_not_built_are_refused(tmp_path):
    with pytest.raises(RunError, match="Run 'distill prompts'"):
        sample_prompts(tmp_path, 5)
