"""The teacher's likeliest tokens in training rows: at the tokens they are of, of one vocabulary, and never missed."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.schema import Filters, Train
from distill.config.sections.training import LogitsObjective
from distill.dataset.build import build_dataset
from distill.dataset.top_targets import common_end
from distill.errors import InputError, RunError
from distill.generation.manifests import commit
from distill.generation.top_logprobs import TopSidecar
from distill.models import load_tokenizer
from distill.models.same_vocabulary import refuse_other_family
from distill.models.tokenization import encode_continuations, end_token_id
from distill.run.hashing import id_hash
from distill.run.records import Prompt, TopRow, read_records, write_records
from distill.run.top_logprobs import top_logprobs
from tests.support.filter import answer, fill, icldist, knowdist

SAID = " The author complains that nobody cared about the device.\n"
K = 3


def built(run: Path, student: Path, without: tuple[str, ...] = (), renamed: bool = False, teacher: Any = None,
          across: Any = None, **train: Any) -> Any:
    """Answers in two shards, asked as turns of a chat; those of some prompts have no log-probabilities.

    ``teacher``: a tokenizer, the student's if there is none.
    """
    tokenizer = teacher or load_tokenizer(student)
    ids = [*encode_continuations(tokenizer, [SAID], True)[0], end_token_id(tokenizer, True)]
    prompts = [dataclasses.replace(knowdist(), id=f"k{number}") for number in range(5)]
    in_order = sorted(prompts, key=lambda prompt: id_hash(prompt.id))
    write_records(run / "prompts" / "knowdist.parquet", Prompt, in_order)
    responses = run / "knowdist" / "responses"
    responses.mkdir(parents=True)

    def names(some: Any) -> list[str]:
        return [f"<{token}>" if renamed else token for token in tokenizer.convert_ids_to_tokens(list(some))]

    for number, some in enumerate((in_order[:2], in_order[2:])):
        marker = commit(responses, f"shard-{number:05d}", str(number), {"prompts": number},
                        [answer(SAID, prompt.id) for prompt in some], 1.0)
        records = [top_logprobs(prompt.id, ids, [[token, 1 + int(prompt.id[1:]), 9] for token in ids],
                                [[-0.5, -1.5, -3.0 - place] for place in range(len(ids))])
                   for prompt in some if prompt.id not in without]
        if records:
            TopSidecar(K, names).commit(responses, f"shard-{number:05d}", marker, records)
    fill(run, "icldist", [icldist()], [answer("positive", "i")])
    objective = LogitsObjective(kind="logits", across_vocabularies=across)
    config = Train(objective=objective, max_length=256, **train)
    return build_dataset(Filters(), config, student, run, 42, {})


def rows(run: Path) -> dict[str, TopRow]:
    return {row.id: row for stage in ("knowdist", "icldist")
            for row in read_records(run / "dataset" / f"{stage}.parquet", TopRow)}


@pytest.mark.parametrize("prompt_format", ["raw", "chat"])
def test_each_token_that_is_the_teachers_own_has_its_distribution_whatever_form_the_student_learns(
    tmp_path: Path, tiny_model: Path, prompt_format: str
) -> None:
    outcome = built(tmp_path, tiny_model, without=("k3",), prompt_format=prompt_format)
    found = rows(tmp_path)
    counts = outcome.details["top_targets"]
    assert [counts["knowdist"][name] for name in ("rows", "with_distribution", "untold")] == [5, 4, 1]
    assert not any(counts["icldist"].values())
    for key in ("k0", "k1", "k2", "k3", "k4"):
        row = found[key]
        completion = row.input_ids[row.n_prompt_tokens:]
        n = len(row.rest_logprobs)
        assert row.top_first + n <= len(completion)
        if key == "k3":
            assert not n
            continue
        assert n >= len(completion) - 3, "all but the token before the first, or the first, and the end"
        learned = completion[row.top_first:row.top_first + n]
        assert list(row.top_ids) == [token for own in learned for token in (own, 1 + int(key[1:]), 9)]
        thirds = row.top_logprobs[2::3]
        assert all(thirds[place] - thirds[place + 1] == 1 for place in range(n - 1)), "of one run of tokens"
    assert not len(found["i"].rest_logprobs)


def test_another_vocabulary_is_refused_and_it_is_said_how_it_differs(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(InputError, match=r"another vocabulary: of \d+ tokens, \d+ differ \(1 is '<.*' to the teacher.*"
                                         "across_vocabularies: gold"):
        built(tmp_path, tiny_model, renamed=True)
    tokenizer = load_tokenizer(tiny_model)
    refuse_other_family(tokenizer, tokenizer, "logits")

    class Other:
        def __len__(self) -> int:
            return 49152

        def convert_ids_to_tokens(self, ids: Any) -> list[str]:
            return [f"<{token}>" for token in tokenizer.convert_ids_to_tokens(list(ids))]

    with pytest.raises(InputError, match="another vocabulary"):
        refuse_other_family(Other(), tokenizer, "logits")


def test_answers_without_any_are_refused_a_damaged_file_too_and_some_are_told(
    tmp_path: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InputError, match=r"of the 5 rows of stage knowdist .*, none has .*top_k set to 20"):
        built(tmp_path / "none", tiny_model, tuple(f"k{number}" for number in range(5)))
    with caplog.at_level(logging.WARNING):
        built(tmp_path / "some", tiny_model, ("k0", "k1", "k2"))
    assert "learned with the teacher's distribution" in caplog.text
    with pytest.raises(InputError, match="logits, which learns"):
        _config(rows={"icldist": [{"kind": "jsonl", "path": "rows.jsonl"}]})
    with pytest.raises(InputError, match=r"top_k is null"):
        _config(corpus={"sources": [{"kind": "text", "path": "x"}]}, teacher={"model": "m"})
    built(tmp_path / "all", tiny_model)
    for path in (tmp_path / "all/knowdist/top_logprobs").glob("*.parquet"):
        path.write_bytes(b"PAR1")
    (tmp_path / "all/dataset/_done.json").unlink()
    train = Train(objective=LogitsObjective(kind="logits"), max_length=256)
    with pytest.raises(RunError, match=r"checksum .*teacher\.logprobs\.top_k"):
        build_dataset(Filters(), train, tiny_model, tmp_path / "all", 42, {})


def _config(**parts: Any) -> None:
    from pydantic import ValidationError

    from distill.config.schema import Config

    try:
        Config.model_validate({"name": "x", "student": {"model": {"name": "m"}}, "train": {"objective": "logits"},
                               **{name: {"model": {"name": "m"}} if name == "teacher" else part
                                  for name, part in parts.items()}})
    except ValidationError as error:
        raise InputError(str(error)) from error


@given(st.lists(st.integers(0, 3), max_size=6), st.lists(st.integers(0, 3), max_size=8))
def test_the_common_end_is_one_run_of_equal_tokens(before: list[int], common: list[int]) -> None:
    ours, theirs = [7, *common, 8], [*before, *common, 5, 9]
    first, last, start = common_end(ours, theirs)
    assert ours[first:last] == theirs[start:start + last - first] and last - first >= len(common)
    assert common_end([], theirs) == common_end(ours, []) == (0, 0, 0)
