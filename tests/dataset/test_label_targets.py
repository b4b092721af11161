"""The teacher's distributions in training rows: of the right row, calibrated as asked, and never missed silently."""

import dataclasses
import logging
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from transformers import MistralConfig

from distill.config.schema import Filters, Train
from distill.config.sections.training import LabelsObjective
from distill.dataset.build import build_dataset
from distill.errors import InputError
from distill.generation.label_logprobs import LABELS as SIDECAR
from distill.generation.manifests import commit
from distill.models import load_tokenizer
from distill.models.tokenization import encode_pairs
from distill.run.hashing import id_hash
from distill.run.records import LabelLogprobs, LabelRow, Prompt, read_records, write_records
from tests.support.filter import answer, fill, icldist, knowdist

LABELS = icldist("i").labels
N = len(LABELS)
GIVEN = {f"i{n}": [-1.0 - (n * place) % 5 for place in range(N)] for n in range(1, 6)}
"""Not of i0, whose distribution could not be told, nor of i6, which is answered by a list."""


def built(run: Path, student: Path, given: dict[str, list[float]], **objective: Any) -> Any:
    prompts = [dataclasses.replace(icldist(f"i{n}"), multi_label=n == 6) for n in range(7)]
    said = {f"i{n}": answer("['positive']" if n == 6 else "maybe" if n == 5 else "positive", f"i{n}") for n in range(7)}
    in_order = sorted(prompts, key=lambda prompt: id_hash(prompt.id))
    write_records(run / "prompts" / "icldist.parquet", Prompt, in_order)
    responses = run / "icldist" / "responses"
    responses.mkdir(parents=True)
    for number, some in enumerate((in_order[:3], in_order[3:])):
        marker = commit(responses, f"shard-{number:05d}", str(number), {"prompts": number},
                        [said[prompt.id] for prompt in some], 1.0)
        if given:
            SIDECAR.commit(responses, f"shard-{number:05d}", marker, [
                LabelLogprobs(prompt.id, LABELS, given[prompt.id]) for prompt in some if prompt.id in given])
    fill(run, "knowdist", [knowdist()], [answer("The author complains that nobody cared about the device.")])
    train = Train(icldist={"objective": LabelsObjective(kind="labels", **objective)}, max_length=256)
    return build_dataset(Filters(), train, student, run, 42, {})


def rows(run: Path) -> dict[str, LabelRow]:
    return {row.id: row for row in read_records(run / "dataset" / "icldist.parquet", LabelRow)}


def normalised(logprobs: Sequence[float]) -> list[float]:
    total = math.log(sum(math.exp(value) for value in logprobs))
    return [value - total for value in logprobs]


def test_each_row_has_the_distribution_of_its_prompt_and_its_labels_as_answers(
    tmp_path: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        outcome = built(tmp_path, tiny_model, GIVEN)
    assert "4 of 5 rows that one label of a list answers" in caplog.text
    found = rows(tmp_path)
    assert outcome.details["label_targets"] == {
        "icldist": {"rows": 5, "with_distribution": 4}}
    assert "label_ids" not in pq.read_schema(tmp_path / "dataset" / "knowdist.parquet").names, "it learns as 'sft'"
    assert found.keys() == {"i0", "i1", "i2", "i3", "i4", "i6"}, "i5 is off the list"
    tokenizer = load_tokenizer(tiny_model)
    for key in ("i1", "i2", "i3", "i4"):
        row = found[key]
        assert row.label_logprobs == pytest.approx(normalised(GIVEN[key]), abs=1e-5)
        pairs = encode_pairs(tokenizer, [(row.prompt, label) for label in LABELS], chat=False)
        assert row.label_ids == [ids for _, ids in pairs]
        assert row.label_ids[LABELS.index("positive")] == row.input_ids[row.n_prompt_tokens:]
    assert not found["i0"].label_logprobs and not found["i6"].label_logprobs


def test_batch_calibration_takes_off_what_every_text_is_given(tmp_path: Path, tiny_model: Path) -> None:
    built(tmp_path, tiny_model, GIVEN, calibration="batch")
    shares = [[math.exp(value) for value in normalised(GIVEN[key])] for key in sorted(GIVEN)]
    mean = [sum(column) for column in zip(*shares, strict=True)]
    for key, row in rows(tmp_path).items():
        if row.label_logprobs:
            taken = [value - math.log(total) for value, total in zip(normalised(GIVEN[key]), mean, strict=True)]
            assert row.label_logprobs == pytest.approx(normalised(taken), abs=1e-4)


def test_rows_without_any_distribution_are_refused_before_training(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(InputError, match=r"of the 5 rows .* none has .* teacher\.logprobs\.labels"):
        built(tmp_path, tiny_model, {})


def test_other_distributions_are_other_rows(tmp_path: Path, tiny_model: Path) -> None:
    first = built(tmp_path / "a", tiny_model, GIVEN)
    other = built(tmp_path / "b", tiny_model, {**GIVEN, "i1": [-2.0] * N})
    assert first.fingerprint != other.fingerprint


def test_a_student_that_sees_a_window_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    student = tmp_path / "student"
    shutil.copytree(tiny_model, student)
    MistralConfig(sliding_window=8, vocab_size=49152).save_pretrained(student)
    with pytest.raises(InputError, match=r"'labels'.*\(mistral\).*sliding window"):
        built(tmp_path, student, GIVEN)
