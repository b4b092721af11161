"""Invariants of the stage that turns the teacher's answers into training rows."""

import dataclasses
import random
import tracemalloc
from pathlib import Path

import pytest

from distill.config.schema import Filters, Train
from distill.dataset.build import build_dataset
from distill.dataset.join import joined, joined_so_far
from distill.errors import InputError, RunError
from distill.generation.manifests import commit
from distill.run.hashing import content_id, id_hash
from distill.run.records import Drop, Prompt, TrainingRow, read_records, write_records
from tests.support.filter import TEXT, answer, fill, icldist, knowdist


def sorted_rows(path: Path, record: type) -> list:
    return list(read_records(path, record))


def test_every_prompt_is_a_row_or_a_counted_and_listed_drop(tmp_path: Path, tiny_model: Path) -> None:
    good = "The author complains that the device failed almost at once and that no one cared."
    asked = [knowdist(f"k{n}") for n in range(6)]
    said = [answer(good, "k0"), answer(TEXT, "k1"), answer("", "k2", "error", "prompt_too_long"),
            answer("cut", "k3", "length"), answer(good * 40, "k4"), answer(f"  {good}\n", "k5")]
    order = random.Random(1).sample(asked, 6)
    fill(tmp_path, "knowdist", order, said)
    labels = [icldist(f"i{n}") for n in range(3)]
    fill(tmp_path, "icldist", labels, [answer(" Positive.", "i0"), answer("maybe", "i1"), answer("neutral", "i2")])
    config, train = Filters(repetitive=False), Train(max_length=256)

    outcome = build_dataset(config, train, tiny_model, tmp_path, 42, {"knowdist": "a", "icldist": "b"})

    first, second = outcome.row_counts
    assert (first.stage, first.n_in, first.n_out) == ("dataset/knowdist", 6, 2)
    assert first.dropped == {"copied": 1, "teacher_failed:prompt_too_long": 1, "truncated": 1, "too_long_student": 1}
    assert (second.n_in, second.n_out, dict(second.dropped)) == (3, 2, {"off_list": 1})
    rows = sorted_rows(tmp_path / "dataset" / "knowdist.parquet", TrainingRow)
    kept = [prompt.id for prompt in order if prompt.id in ("k0", "k5")]
    assert [(row.id, row.completion) for row in rows] == [(key, good) for key in kept]
    rows = sorted_rows(tmp_path / "dataset" / "icldist.parquet", TrainingRow)
    assert [(row.id, row.completion) for row in rows] == [("i0", "positive"), ("i2", "neutral")]
    drops = sorted_rows(tmp_path / "dataset" / "dropped.parquet", Drop)
    assert sorted(drop.id for drop in drops) == ["i1", "k1", "k2", "k3", "k4"]
    assert outcome.details["kept_by_kind"]["icldist"] == {"sentiment/lw": 2}
    assert outcome.details["dropped_by_kind"] == {
        "knowdist": {"rewrite/target": dict(first.dropped)}, "icldist": {"sentiment/lw": {"off_list": 1}}}
    assert 2 <= outcome.details["mean_completion_tokens"]["icldist"] <= 4
    assert build_dataset(config, train, tiny_model, tmp_path, 42, {"knowdist": "a", "icldist": "b"}).reused
    with pytest.raises(InputError, match="parents"):
        build_dataset(config, train, tiny_model, tmp_path, 42, {"knowdist": "other", "icldist": "b"})


def test_where_agreement_is_asked_for_the_odd_answer_out_is_a_listed_drop(tmp_path: Path, tiny_model: Path) -> None:
    prompts = [dataclasses.replace(icldist(f"i{n}"), text_id="one text") for n in range(4)]
    prompts += [dataclasses.replace(icldist(f"o{n}"), text_id="another") for n in range(3)]
    fill(tmp_path, "icldist", prompts, [answer(text, f"i{n}") for n, text in enumerate(
        ["positive", " Positive.", "negative", "positive"])] + [
        answer("positive", "o0"), answer("positive", "o1", "length"), answer("negative", "o2")])
    fill(tmp_path, "knowdist", [knowdist()], [answer("The author complains that nobody cared about the device.")])
    counts = build_dataset(Filters(agreement=True), Train(), tiny_model, tmp_path, 42, {}).row_counts[1]
    assert (counts.n_in, counts.n_out, dict(counts.dropped)) == (7, 3, {"disagrees": 3, "truncated": 1})
    (drop,) = [drop for drop in sorted_rows(tmp_path / "dataset" / "dropped.parquet", Drop) if drop.id == "i2"]
    assert (drop.reason, drop.detail) == ("disagrees", "negative: 1 of 4 prompts on this text")


def test_in_mixed_format_the_longer_form_must_fit(tmp_path: Path, tiny_model: Path) -> None:
    from distill.models import load_tokenizer
    from distill.models.tokenization import encode_completion, encode_prompt

    prompt, tokenizer = icldist("i0"), load_tokenizer(tiny_model)
    raw, chat = (len(encode_prompt(tokenizer, prompt.prompt, form)) +
                 len(encode_completion(tokenizer, prompt.prompt, "neutral", form)) for form in (False, True))
    assert raw < chat
    fill(tmp_path, "knowdist", [], [])
    fill(tmp_path, "icldist", [prompt], [answer("neutral", "i0")])
    build_dataset(Filters(), Train(max_length=raw), tiny_model, tmp_path, 42, {})
    with pytest.raises(InputError, match="too_long_student: 1"):
        build_dataset(Filters(), Train(max_length=raw, prompt_format="mixed"), tiny_model, tmp_path, 42, {}, "discard")
    assert not (tmp_path / "dataset" / "_done.json").exists()


def test_a_prompt_without_a_record_or_a_record_without_a_prompt_fails_the_run(tmp_path: Path, tiny_model: Path) -> None:
    for name, prompts, responses in [
        ("a", ["i0", "i1"], ["i0"]), ("b", ["i0"], ["i0", "i1"]), ("c", ["i0"], ["i0", "i0"]),
    ]:
        run = tmp_path / name
        fill(run, "knowdist", [], [])
        fill(run, "icldist", [icldist(item) for item in prompts], [answer("neutral", item) for item in responses])
        with pytest.raises(RunError, match="run the generation again"):
            build_dataset(Filters(), Train(), tiny_model, run, 42, {})


def test_a_damaged_shard_is_not_read(tmp_path: Path, tiny_model: Path) -> None:
    fill(tmp_path, "knowdist", [], [])
    fill(tmp_path, "icldist", [icldist("i0")], [answer("neutral", "i0")])
    path = tmp_path / "icldist" / "responses" / "shard-00000.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(RunError, match="checksum"):
        build_dataset(Filters(), Train(), tiny_model, tmp_path, 42, {})


def test_where_prompts_were_asked_again_the_rows_are_not_taken_for_those_of_the_answers_now(
        tmp_path: Path, tiny_model: Path) -> None:
    fill(tmp_path, "knowdist", [], [])
    fill(tmp_path, "icldist", [icldist("i0"), icldist("i1")], [answer("neutral", "i0"), answer("", "i1", "error", "x")])
    assert build_dataset(Filters(), Train(), tiny_model, tmp_path, 42, {}).row_counts[1].n_out == 1
    folder = tmp_path / "icldist" / "responses"
    commit(folder, "shard-00001", "1", {"prompts": "x", "again": 1}, [answer("positive", "i1")], 1.0)
    with pytest.raises(InputError, match=r"responses\.icldist"):
        build_dataset(Filters(), Train(), tiny_model, tmp_path, 42, {})
    assert build_dataset(Filters(), Train(), tiny_model, tmp_path, 42, {}, "discard").row_counts[1].n_out == 2


def in_hash_order(count: int) -> list[Prompt]:
    return sorted((icldist(content_id(str(n))) for n in range(count)), key=lambda prompt: id_hash(prompt.id))


def answered(run: Path, prompts: list[Prompt], size: int, output: str, finished: set[int]) -> None:
    """Write the responses to ranges of ``prompts`` as shards, those of them that are ``finished``."""
    folder = run / "icldist" / "responses"
    folder.mkdir(parents=True)
    for number in finished:
        portion = prompts[number * size:(number + 1) * size]
        commit(folder, f"shard-{number:05d}", "", {}, [answer(output, prompt.id) for prompt in portion], 1.0)


def test_no_more_than_a_shard_of_responses_is_in_memory(tmp_path: Path) -> None:
    size, output = 200, "x" * 10_000
    prompts = in_hash_order(20 * size)
    write_records(tmp_path / "prompts" / "icldist.parquet", Prompt, prompts)
    answered(tmp_path, prompts, size, output, set(range(20)))
    for read in (joined, joined_so_far):
        tracemalloc.start()
        assert sum(prompt.id == response.prompt_id for prompt, response in read(tmp_path, "icldist")) == len(prompts)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 0.3 * len(prompts) * len(output)


@pytest.mark.parametrize("finished", [{0}, {3}, {1, 2}, {0, 2, 3}, set(), {0, 1, 2, 3, 4}])
@pytest.mark.parametrize("mixed_up", [False, True])
def test_of_a_run_under_way_just_the_answered_prompts_are_seen(tmp_path: Path, finished: set[int],
                                                               mixed_up: bool) -> None:
    prompts = in_hash_order(45)
    written = random.Random(3).sample(prompts, 45) if mixed_up else prompts
    write_records(tmp_path / "prompts" / "icldist.parquet", Prompt, written)
    answered(tmp_path, prompts, 10, "neutral", finished)
    pairs = list(joined_so_far(tmp_path, "icldist"))
    assert all(prompt.id == response.prompt_id for prompt, response in pairs)
    assert sorted(prompt.id for prompt, _ in pairs) == sorted(
        prompt.id for number in finished for prompt in prompts[number * 10:number * 10 + 10])
    if len(finished) == 5:
        assert [prompt for prompt, _ in joined(tmp_path, "icldist")] == written
    else:
        with pytest.raises(RunError, match="neither a response nor a failure"):
            list(joined(tmp_path, "icldist"))
