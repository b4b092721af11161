"""Rows of the demonstration pool: right, in every format, never asked with themselves, never on both sides."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from distill.config.schema import Config, Dataset, Filters, IclDist, Train
from distill.corpus.build import texts_file
from distill.dataset.build import DROPPED, build_dataset
from distill.dataset.composition import POOL, composition
from distill.dataset.pool import Pool, add_pool_rows
from distill.dataset.split import validation_order
from distill.dataset.tokens import RowEncoder
from distill.errors import InputError
from distill.parsing.labels import parse_answer
from distill.parsing.tuple_answer import read_tuple_answer
from distill.prompting.decontaminate import Benchmark
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.icldist import label_variants
from distill.run.hashing import content_id
from distill.run.records import (
    BenchmarkText,
    Drop,
    LabelRow,
    ManyAnswersRow,
    Text,
    TokenizedRow,
    TrainingRow,
    read_records,
    write_records,
)
from distill.run.stage import Outcome
from tests.config import test_tuple_task
from tests.support.composed import CONFIG, prompts_of
from tests.support.filter import answer, fill

ON = CONFIG.model_copy(update={"pool_rows": True})
FEWER = ON.model_copy(update={"weights": {"emotion": 0, "mi": 0}})
SHIPPED = load_demonstrations(CONFIG)
TEXTS = [f"The soup of day {n} was cold." for n in range(6)]


def built(run: Path, student: Path, icldist: IclDist = FEWER, texts: list[str] = TEXTS, train: Train | None = None,
          benchmark: Benchmark | None = None, **dataset: object) -> Outcome:
    if not run.exists():
        asked = prompts_of(texts)
        fill(run, "knowdist", [], [])
        fill(run, "icldist", asked, [
            answer(f"['{one.labels[0]}']" if one.multi_label else one.labels[0], one.id) for one in asked])
    return build_dataset(Filters(), train or Train(max_length=300), student, run, 42, {}, "discard",
                         dataset=Dataset(**dataset), icldist=icldist, benchmark=benchmark)


def pool_rows(outcome: Outcome) -> list[TrainingRow]:
    rows = read_records(outcome.folder / "icldist.parquet", TrainingRow)
    return [row for row in rows if row.text_id.startswith("demonstration:")]


def test_each_text_stands_in_every_format_with_its_own_answer_and_without_itself(
    tmp_path: Path, tiny_model: Path
) -> None:
    plain, outcome = built(tmp_path / "a", tiny_model, CONFIG), built(tmp_path / "b", tiny_model, ON)
    rows = pool_rows(outcome)
    (account,) = [one.check() for one in outcome.row_counts if one.stage == "dataset/pool"]
    variants = list(label_variants(ON, SHIPPED))
    assert account.n_in == sum(len(variant.places) for variant in variants) > 55 * 10
    assert account.n_out == len(rows) == sum(outcome.details["pool_rows"].values())
    assert set(account.dropped) <= {"duplicate", "too_long_student"} and len({row.id for row in rows}) == len(rows)
    assert outcome.details["split"]["icldist"]["train"] == plain.details["split"]["icldist"]["train"] + len(rows)
    right = {(f"{variant.task}/{variant.strategy}", variant.labels, place): variant.answers[place]
             for variant in variants for place in variant.places}
    for row in rows:
        question = row.prompt.rpartition("Sentence: ")[2].removesuffix("\nOutput:")
        (place,) = [place for place, item in enumerate(SHIPPED) if item.text == question]
        assert row.completion == right[row.kind, tuple(row.labels), place]
        assert row.prompt.count(f"Sentence: {question}\n") == 1 and row.split == "train"
        assert parse_answer(row.completion, row.labels, row.multi_label) == row.completion
    assert pool_rows(built(tmp_path / "c", tiny_model, ON)) == rows, "the same ones every time"
    assert [row for row in read_records(outcome.folder / "icldist.parquet", TrainingRow) if row not in rows] == list(
        read_records(plain.folder / "icldist.parquet", TrainingRow))
    dropped = [drop for drop in read_records(outcome.folder / DROPPED, Drop) if drop.stage == "dataset/pool"]
    assert Counter(drop.reason for drop in dropped) == account.dropped


def test_a_text_of_the_pool_that_is_held_out_or_in_the_benchmark_is_neither_learned_nor_shown(
    tmp_path: Path, tiny_model: Path
) -> None:
    held, leaked = SHIPPED[3].text, SHIPPED[7].text
    benchmark = Benchmark(lambda: [BenchmarkText(leaked, "x", "test")], "x", 3)
    text = held.upper()
    later = max(TEXTS, key=lambda other: validation_order(42, content_id(other)))
    assert validation_order(42, content_id(text)) < validation_order(42, content_id(later)), "so that it is held out"
    outcome = built(tmp_path / "run", tiny_model, texts=[text, later], benchmark=benchmark, compose="many",
                    train=Train(max_length=400, eval_fraction=0.4))
    rows = pool_rows(outcome)
    (account,) = [one for one in outcome.row_counts if one.stage == "dataset/pool"]
    variants = list(label_variants(FEWER, SHIPPED))
    assert account.dropped == {reason: sum(place in variant.places for variant in variants)
                               for reason, place in (("held_out_text", 3), ("benchmark_exact", 7))}
    assert rows and not any(text in row.prompt for row in rows for text in (held, leaked))


def test_the_rows_go_with_several_answers_and_with_distributions(tmp_path: Path, tiny_model: Path) -> None:
    path, dropped = tmp_path / "icldist.parquet", tmp_path / "dropped.parquet"
    write_records(path, LabelRow, [])
    write_records(dropped, Drop, [])
    account, _ = add_pool_rows(Pool(FEWER, 42), [path], RowEncoder(tiny_model, Train(), 42), LabelRow, dropped)
    assert [row.label_logprobs for row in read_records(path, LabelRow)] == [[]] * account.n_out
    outcome = built(tmp_path / "run", tiny_model, compose="many")
    rows = list(read_records(outcome.folder / "icldist.parquet", ManyAnswersRow))
    assert any(row.gaps for row in rows) and pool_rows(outcome)
    assert not any(row.gaps or row.label_logprobs for row in rows if row.text_id.startswith("demonstration:"))


def test_tuples_of_a_task_of_ones_own_are_rows_and_no_row_says_its_task_by_nothing(
    tmp_path: Path, tiny_model: Path
) -> None:
    leaked: dict[str, Any] = {
        "text": "A warm little room.", "tuples": [["room", "house", "good"], ["warm", "house", "bad"]]}
    benchmark = Benchmark(lambda: [BenchmarkText(leaked["text"], "x", "test")], "x", 3)
    for number, shown in enumerate((test_tuple_task.SHOWN, [leaked, test_tuple_task.SHOWN[1]])):
        folder = tmp_path / str(number)
        folder.mkdir()
        own = test_tuple_task.write(folder, shown)
        config = IclDist.model_validate({"tasks": [str(own)], "weights": {"sentiment": 0, "emotion": 0}})
        path, dropped = folder / "icldist.parquet", folder / "dropped.parquet"
        write_records(path, TokenizedRow, [])
        write_records(dropped, Drop, [])
        account, kinds = add_pool_rows(Pool(config, 42, benchmark), [path], RowEncoder(tiny_model, Train(), 42),
                                       TokenizedRow, dropped)
        for row in read_records(path, TokenizedRow):
            assert not read_tuple_answer(row.completion, test_tuple_task.SCHEMA, row.prompt).problem and not row.labels
        if number:
            assert kinds == {"rooms/basic": 1, "rooms/basic2": 1}
            assert account.dropped == {"benchmark_exact": 3, "no_other_demonstration": 1}
        else:
            assert kinds == {"rooms/basic": 3, "rooms/basic2": 3, "rooms/mi": 3} and not account.dropped


def test_the_rows_are_told_by_their_source(tmp_path: Path, tiny_model: Path) -> None:
    outcome = built(tmp_path / "run", tiny_model)
    write_records(texts_file(tmp_path / "run"), Text, [Text(content_id(text), text, "d", "mine") for text in TEXTS])
    by_source = Counter[str]()
    for row in composition(tmp_path / "run", "icldist"):
        by_source[row["source"]] += row["rows"]
    assert by_source[POOL] == len(pool_rows(outcome)) and by_source.keys() == {POOL, "mine"}


def test_other_demonstrations_are_changed_work_and_bad_ones_are_refused(tmp_path: Path, tiny_model: Path) -> None:
    own = tmp_path / "pool.json"
    entries = [{"text": item.text, **{key: list(value) for key, value in item.answers.items()}} for item in SHIPPED]
    own.write_text(json.dumps(entries))
    config = FEWER.model_copy(update={"demonstrations": str(own)})
    first = built(tmp_path / "run", tiny_model, config)
    assert built(tmp_path / "run", tiny_model, config).reused
    own.write_text(json.dumps(entries[:-1]))
    assert built(tmp_path / "run", tiny_model, config).fingerprint != first.fingerprint
    own.unlink()
    with pytest.raises(InputError, match=r"pool\.json"):
        built(tmp_path / "run", tiny_model, config)


@pytest.mark.parametrize(("changed", "why"), [
    ({"train": {"stages": ["knowdist"]}}, "stages is .knowdist"),
    ({"prompts": {"icldist": {"samples": 0, "pool_rows": True}}}, "icldist.samples is 0")])
def test_a_run_without_such_prompts_has_no_such_rows(changed: dict[str, object], why: str) -> None:
    base = {"name": "x", "corpus": {"sources": [{"kind": "csv", "path": "a.csv"}]}, "student": {"model": {"name": "m"}},
            "teacher": {"model": {"name": "m"}}, "prompts": {"icldist": {"pool_rows": True}}}
    with pytest.raises(ValidationError, match=rf"pool_rows.*{why}"):
        Config.model_validate({**base, **changed})
