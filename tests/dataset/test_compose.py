"""Rows of several answers: every answer once, no text twice or on both sides, and nothing longer than may be."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from distill.config.schema import Config, Dataset, Filters, Train
from distill.config.sections.training import LogitsObjective
from distill.dataset.build import build_dataset
from distill.dataset.composition import taught_texts
from distill.dataset.tokens import RowEncoder
from distill.errors import InputError
from distill.generation.manifests import commit
from distill.generation.top_logprobs import TopSidecar
from distill.models import load_tokenizer
from distill.models.tokenization import encode_continuations
from distill.prompting.labels import answer_text
from distill.prompting.pieces import PromptPieces
from distill.run.hashing import content_id, id_hash
from distill.run.records import TRAIN, VALIDATION, ManyAnswersRow, Prompt, read_records, write_records
from distill.run.stage import Outcome
from distill.run.top_logprobs import top_logprobs
from distill.training.token_files import IGNORED, completion_labels
from tests.support.composed import CONFIG, PIECES, POOL, compose, prompts_of, rows_of
from tests.support.filter import answer, fill

ODD = st.sampled_from(["", "Sentence: x\nOutput: positive\n\n", f"Sentence: {POOL[0].text}\nOutput: ", POOL[1].text,
                       "Output:", "{Text} {Answer}", "<|im_end|>", "\u00e9\U0001f600"])
TEXTS = st.lists(ODD | st.text(st.characters(codec="utf-8"), max_size=30), min_size=1, max_size=14)


def numbered(texts: list[str]) -> list[str]:
    return [f"{text} #{number}#" for number, text in enumerate(texts)]


def learned(row: ManyAnswersRow) -> list[list[int]]:
    """Return what is learned of a row, answer by answer."""
    labels = completion_labels(pa.array([row.input_ids], pa.list_(pa.int32())), np.array([row.n_prompt_tokens]),
                               [row.gaps])[0].as_py()
    ends = [*row.gaps[::2], len(labels) - 1]
    starts = [row.n_prompt_tokens, *row.gaps[1::2]]
    found = [labels[start:end + 1] for start, end in zip(starts, ends, strict=True)]
    assert sum(map(len, found)) == sum(label != IGNORED for label in labels)
    return found


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS, per_row=st.integers(2, 5), max_length=st.sampled_from([180, 300, 2048]))
def test_every_answer_is_learned_once_and_no_text_twice_in_a_row_or_on_both_sides(
    tiny_model: Path, texts: list[str], per_row: int, max_length: int
) -> None:
    train = Train(max_length=max_length, eval_fraction=0.2)
    encoder = RowEncoder(tiny_model, train, 42)
    asked = rows_of(prompts_of(numbered(texts)), encoder)
    if not asked:
        return
    with tempfile.TemporaryDirectory() as folder:
        path, account = compose(asked, Path(folder), encoder, train, per_row)
        rows = list(read_records(path, ManyAnswersRow))
        again, _ = compose(asked, Path(folder, "again"), encoder, train, per_row)
        assert list(read_records(again, ManyAnswersRow)) == rows
    held = {row.text_id for row in rows if row.split == VALIDATION}
    to_learn = [row for row in asked if row.text_id not in held]
    made = [row for row in rows if row.split == TRAIN]
    assert sorted(row.id for row in rows if row.split == VALIDATION) == sorted(
        row.id for row in asked if row.text_id in held), "held-out rows stay as they were asked"
    assert (account.n_in, account.n_out) == (len(to_learn), len(made))
    end = asked[0].input_ids[-1]
    answers = [tuple(answer) for row in made for answer in learned(row)]
    assert sorted(answers) == sorted(tuple(row.input_ids[row.n_prompt_tokens:]) for row in to_learn)
    assert all(answer[-1] == end and answer.count(end) == 1 for answer in answers)
    marks = {row.text_id: f" #{row.prompt[row.question_at:].rpartition(' #')[2].partition('#')[0]}#" for row in asked}
    for mark, in_rows in ((marks[key], [row for row in to_learn if row.text_id == key]) for key in marks):
        shown = [row.prompt.count(mark) for row in made]
        assert max(shown, default=0) <= 1 and sum(shown) == len(in_rows)
    for row in made:
        assert len(row.input_ids) <= max_length and len(learned(row)) <= per_row
        kinds = PIECES.of(row.kind, row.labels)
        assert kinds and row.prompt.startswith(kinds.head)
        assert row.prompt[row.question_at:].startswith("Sentence: ") and row.question_at >= 0


@settings(max_examples=15, deadline=None)
@given(TEXTS)
def test_the_question_of_a_prompt_is_found_whatever_its_text_says(texts: list[str]) -> None:
    for prompt in prompts_of(texts):
        assert prompt.prompt[PIECES.question_at(prompt):] == f"Sentence: {_text(prompt.text_id, texts)}\nOutput:"


def _text(text_id: str, texts: list[str]) -> str:
    return next(text for text in texts if content_id(text) == text_id)


def test_a_row_says_in_words_what_its_ids_say(tiny_model: Path, tmp_path: Path) -> None:
    train = Train()
    encoder = RowEncoder(tiny_model, train, 42)
    asked = rows_of(prompts_of([f"The soup of day {n} was cold." for n in range(40)]), encoder)
    path, account = compose(asked, tmp_path, encoder, train)
    rows = [row for row in read_records(path, ManyAnswersRow) if row.gaps]
    assert account.n_out < account.n_in / 2 and len({row.kind for row in rows}) == 6
    for row in rows:
        whole = encoder.encode_prompt(row.prompt)
        assert row.input_ids[:row.gaps[-1]] == whole, "as the few-shot prompt is read when it is asked"
        pieces = PIECES.of(row.kind, row.labels)
        assert pieces and pieces.names_labels != (row.kind.endswith("/mi"))
        shown = row.prompt[len(pieces.head):].count("Sentence: ")
        assert shown == len(row.gaps) // 2 + 1 if pieces.names_labels else shown > len(row.gaps) // 2 + 1


@pytest.mark.parametrize("changed", [{"weights": {"sentiment": 0}}, {"label_words": False}])
def test_rows_of_formats_that_are_not_asked_stay_as_they_are(changed: dict[str, object]) -> None:
    fewer = PromptPieces(CONFIG.model_copy(update=changed), POOL)
    (prompt,) = [one for one in prompts_of([f"Cold soup {n}." for n in range(60)]) if one.kind == "sentiment/lw"][:1]
    assert fewer.question_at(prompt) == -1 and PIECES.question_at(prompt) > 0


def test_the_dataset_stage_puts_rows_together_where_it_is_asked_and_accounts_for_each(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = prompts_of([f"The soup of day {n} was cold." for n in range(12)])
    said = [answer(one.labels[0] if not one.multi_label else f"['{one.labels[0]}']", one.id) for one in asked]

    def built(run: Path, **settings: object) -> Outcome:
        if not run.exists():
            fill(run, "knowdist", [], [])
            fill(run, "icldist", asked, said)
        return build_dataset(Filters(), Train(), tiny_model, run, 42, {}, dataset=Dataset(**settings), icldist=CONFIG)

    plain, many = built(tmp_path / "plain"), built(tmp_path / "many", compose="many")
    assert [account.stage for account in plain.row_counts] == ["dataset/knowdist", "dataset/icldist"]
    (account,) = [account for account in many.row_counts if account.stage == "dataset/compose"]
    splits = many.details["split"]["icldist"]
    assert splits["train"] == account.n_out < account.n_in == 36 - splits["validation"]
    rows = read_records(many.folder / "icldist.parquet", ManyAnswersRow)
    kept = {row.text_id for row in rows if row.split != TRAIN}
    assert taught_texts(tmp_path / "many", "icldist") == {one.text_id for one in asked} - kept
    told = many.details["composed"]
    assert sum(int(n) * count for n, count in told["rows_by_answers"].items()) == told["answers"] == account.n_in
    assert set(pq.read_schema(plain.folder / "icldist.parquet").names).isdisjoint(["gaps", "question_at"])
    assert built(tmp_path / "many", compose="many").reused and built(tmp_path / "plain").reused
    with pytest.raises(InputError, match="texts_per_row"):
        built(tmp_path / "many", compose={"kind": "many", "texts_per_row": 3})
    monkeypatch.setattr("distill.dataset.build.load_demonstrations", lambda _: [])
    with pytest.raises(InputError, match=r"none of the run's label prompts can be taken apart.*demonstrations"):
        built(tmp_path / "other", compose="many")


def test_answers_of_several_labels_keep_the_likeliest_tokens_where_they_are_put_together(
    tiny_model: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    asked = sorted(prompts_of([f"The soup of day {n} was cold." for n in range(40)]), key=lambda one: id_hash(one.id))
    said = {one.id: answer_text([one.labels[0]], one.multi_label) for one in asked}
    fill(tmp_path, "knowdist", [], [])
    write_records(tmp_path / "prompts/icldist.parquet", Prompt, asked)
    responses = tmp_path / "icldist/responses"
    responses.mkdir(parents=True)
    marker = commit(responses, "shard-00000", "0", {}, [answer(said[one.id], one.id) for one in asked], 1.0)
    ids = {key: encode_continuations(tokenizer, [f" {text}"], False)[0] for key, text in said.items()}
    records = [top_logprobs(one.id, ids[one.id], [[token, place] for place, token in enumerate(ids[one.id])],
                            [[-0.5, -1.5]] * len(ids[one.id])) for one in asked if one.multi_label]
    TopSidecar(2, tokenizer.convert_ids_to_tokens).commit(responses, "shard-00000", marker, records)
    outcome = build_dataset(Filters(), Train(objective=LogitsObjective(kind="logits")), tiny_model, tmp_path, 42, {},
                            dataset=Dataset(compose="many"), icldist=CONFIG)
    rows = [row for row in read_records(outcome.folder / "icldist.parquet", ManyAnswersRow) if row.gaps]
    assert {bool(row.rest_logprobs) for row in rows} == {True, False}
    for row in rows:
        assert row.multi_label == bool(row.rest_logprobs)
        if row.multi_label:
            whole = [token for own in learned(row) for token in own]
            told = np.array(row.top_ids).reshape(-1, 2)
            there = ~np.isnan(np.array(row.rest_logprobs))
            assert len(whole) == len(told) and there.sum() == len(whole) - len(learned(row)), "all but the end tokens"
            assert told[there, 0].tolist() == [token for token, known in zip(whole, there, strict=True) if known]
            assert told[there, 1].tolist() == [place for own in learned(row) for place in range(len(own) - 1)]
            assert np.isfinite(row.top_logprobs).all()


@pytest.mark.parametrize(("changed", "why"), [
    ({"train": {"prompt_format": "mixed"}}, "prompt_format is mixed"),
    ({"train": {"keep_reasoning": True}}, "keep_reasoning"),
    ({"train": {"stages": ["knowdist"]}}, "which no such rows"),
    ({"prompts": {"icldist": {"samples": 0}}}, "icldist.samples is 0")])
def test_what_cannot_be_put_together_is_refused_by_name(changed: dict[str, object], why: str) -> None:
    base = {"name": "x", "corpus": {"sources": [{"kind": "csv", "path": "a.csv"}]}, "student": {"model": {"name": "m"}},
            "teacher": {"model": {"name": "m"}}, "dataset": {"compose": "many"}, "evaluate": {"models": ["base"]}}
    with pytest.raises(ValidationError, match=rf"dataset.compose is many.*{why}"):
        Config.model_validate({**base, **changed})
