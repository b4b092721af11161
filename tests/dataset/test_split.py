"""Every row is for training, for validation, or left out, and says which; the choice is by hash alone."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.schema import Filters, Fractions, Gate, Rows, Train
from distill.config.sections.rows import FileRows
from distill.dataset.build import build_dataset
from distill.dataset.split import split_rows, unsplit_file
from distill.dataset.tokens import encode_rows
from distill.errors import InputError
from distill.models import load_tokenizer
from distill.run.records import TokenizedRow, TrainingRow, read_records, write_records
from tests.dataset.test_import_rows import take_in
from tests.support.filter import answer, fill, icldist, knowdist

ROWS = {"knowdist": [f"kd{i:03d}" for i in range(16)], "icldist": [f"row{i:03d}" for i in range(24)]}


def split(folder: Path, **settings: object) -> dict[str, set[str]]:
    """Return the ids of the rows by split."""
    for source, ids in ROWS.items():
        rows = [TokenizedRow(key, source, "", "p", "c") for key in ids]
        write_records(unsplit_file(folder, source), TokenizedRow, rows)
    train = Train(eval_fraction=0.2, **settings)
    counts = split_rows(folder, dict.fromkeys(ROWS, TokenizedRow), train, 42)
    found: dict[str, set[str]] = {}
    for source in ROWS:
        rows = list(read_records(folder / f"{source}.parquet", TrainingRow))
        assert [row.id for row in rows] == ROWS[source], "in the order that they came in"
        assert counts[source] == {name: sum(row.split == name for row in rows) for name in counts[source]}
        for row in rows:
            found.setdefault(row.split, set()).add(row.id)
    return found


def test_the_rows_for_validation_are_those_that_earlier_versions_held_out(tmp_path: Path) -> None:
    assert split(tmp_path)["validation"] == {
        "kd003", "kd010", "kd011", "row000", "row010", "row011", "row016", "row021"}
    assert split(tmp_path, stages=["unified"])["validation"] == {
        "kd001", "kd003", "kd010", "kd011", "row000", "row010", "row016", "row021"}
    half = split(tmp_path, fractions=Fractions(icldist=0.5), stages=["icldist"])
    assert half["validation"] == {"kd003", "kd010", "kd011", "row000", "row010"}
    assert {key for key in half["train"] | half["validation"] if key.startswith("row")} == {
        f"row{n:03d}" for n in (0, 3, 5, 7, 9, 10, 11, 13, 15, 18, 19, 22)}
    assert len(half["outside_fraction"]) == 12


def by_text(folder: Path, texts: dict[str, list[str]], **settings: object) -> dict[str, dict[str, list[str]]]:
    """Return the texts of the rows by source and split."""
    for source, some in texts.items():
        write_records(unsplit_file(folder, source), TokenizedRow, [
            TokenizedRow(f"{source}{number}", source, "", "p", "c", text_id=text) for number, text in enumerate(some)])
    split_rows(folder, dict.fromkeys(texts, TokenizedRow), Train(**settings), 42, by_text=True)
    return {source: {name: [row.text_id for row in read_records(folder / f"{source}.parquet", TrainingRow)
                            if row.split == name] for name in ("train", "validation")} for source in texts}


@given(st.lists(st.integers(0, 8), max_size=30), st.lists(st.integers(5, 20), max_size=30),
       st.sampled_from([0.0, 0.05, 0.2, 0.45]), st.booleans())
def test_a_text_is_held_out_of_all_sources_or_of_none_and_never_all_of_a_source(
    first: list[int], second: list[int], fraction: float, unified: bool
) -> None:
    texts = {"knowdist": [f"t{n}" for n in first], "icldist": [f"t{n}" for n in second]}
    stages = ["unified"] if unified else ["knowdist", "icldist"]
    with tempfile.TemporaryDirectory() as folder:
        found = by_text(Path(folder), texts, stages=stages, eval_fraction=fraction, gate=Gate(enabled=False))
    held, trained = ({text for one in found.values() for text in one[name]} for name in ("validation", "train"))
    assert not held & trained and bool(trained) == bool(first or second)
    for source, some in texts.items():
        assert len(found[source]["train"]) + len(found[source]["validation"]) == len(some)
        assert found[source]["train"] or not some or unified
    distinct = set(texts["knowdist"]) | set(texts["icldist"])
    assert bool(held) == (fraction > 0 and len(distinct) > 1) or (not unified and len(distinct) < 4)
    assert fraction or not held


def test_rows_of_one_text_alone_are_all_trained_on(tmp_path: Path) -> None:
    found = by_text(tmp_path, {"knowdist": ["a"] * 9, "icldist": ["b"] * 5}, eval_fraction=0.2)
    assert not any(one["validation"] for one in found.values())


def test_a_row_carries_what_its_prompt_says_and_its_token_ids(tmp_path: Path, tiny_model: Path) -> None:
    said = "The author complains that the device failed almost at once and that no one cared."
    fill(tmp_path, "knowdist", [knowdist("k0")], [answer(said, "k0")])
    fill(tmp_path, "icldist", [icldist("i0"), icldist("i1", ["joy", "anger"], multi_label=True)], [
        answer(" Positive.", "i0"), answer("[Joy]", "i1")])
    outcome = build_dataset(Filters(), Train(max_length=256), tiny_model, tmp_path, 42, {})
    rows = {row.id: row for source in ROWS for row in read_records(outcome.folder / f"{source}.parquet", TokenizedRow)}
    assert {key: (row.labels, row.multi_label, row.text_id) for key, row in rows.items()} == {
        "k0": ([], False, "t"), "i0": (["positive", "negative", "neutral"], False, "t"),
        "i1": (["joy", "anger"], True, "t")}
    for (expected, _), row in zip(encode_rows(list(rows.values()), load_tokenizer(tiny_model), "raw", 42),
                                  rows.values(), strict=True):
        assert (row.input_ids, row.n_prompt_tokens) == (expected.input_ids, expected.n_prompt_tokens)
        assert 0 < row.n_prompt_tokens < len(row.input_ids)


@pytest.mark.parametrize("change", [{"eval_fraction": 0.2}, {"fractions": Fractions(icldist=0.5)}, {"max_length": 300}])
def test_another_split_or_length_is_changed_work_of_the_dataset(
        tmp_path: Path, tiny_model: Path, change: dict[str, object]) -> None:
    fill(tmp_path, "knowdist", [], [])
    fill(tmp_path, "icldist", [icldist("i0")], [answer("neutral", "i0")])
    build_dataset(Filters(), Train(), tiny_model, tmp_path, 42, {})
    with pytest.raises(InputError, match=next(iter(change))):
        build_dataset(Filters(), Train(**change), tiny_model, tmp_path, 42, {})
    assert build_dataset(Filters(), Train(device_batch_size=2), tiny_model, tmp_path, 42, {}).reused


def test_what_the_student_does_not_take_whole_is_too_long_whatever_max_length_says(
        tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.dataset.tokens.context_length", lambda _: 40)
    (tmp_path / "rows.jsonl").write_text("\n".join(
        json.dumps({"prompt": f"Is {n} even?", "completion": "word " * n}) for n in (1, 100)))
    rows = Rows(icldist=[FileRows(kind="jsonl", path=str(tmp_path / "rows.jsonl"))])
    outcome, kept, _ = take_in(rows, tiny_model, tmp_path / "run", max_length=2048)
    assert outcome.row_counts[1].dropped == {"too_long_student": 1} and len(kept) == 1
