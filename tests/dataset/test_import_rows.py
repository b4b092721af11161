"""Rows made elsewhere: every form is read for what it says, every row is accounted for, the benchmark stays out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.load import validate
from distill.config.schema import Config, FileRows, Rows, SentiBenchRows, Train
from distill.corpus.decontamination.contamination import _short_spans, pieces_of
from distill.corpus.normalize import normal_form
from distill.dataset.import_formats import form_of, one_turn
from distill.dataset.import_rows import Benchmarks, import_rows
from distill.errors import InputError
from distill.run.records import BenchmarkText, Drop, TrainingRow, read_records
from flows.run import Run
from flows.steps import teacher_folder
from sentibench.data import load_split
from sentibench.registry import get_task
from sentibench.training_rows import training_rows

DATA = "shipped:data/sentibench"
LEAK = "The waiter was rude, the soup was cold and nobody said sorry to us all evening."


def benchmarks(*texts: str) -> Benchmarks:
    def held() -> Iterator[BenchmarkText]:
        yield from (BenchmarkText(text, "sst2", "test") for text in (*texts, "Nothing that anybody would ever say so."))

    return Benchmarks(held, held, lambda source: training_rows(source, DATA, "paper", 42), {}, "a benchmark")


def take_in(rows: Rows, model: Path, run: Path, *texts: str, **train: Any
            ) -> tuple[Any, list[TrainingRow], dict[str, str]]:
    outcome = import_rows(rows, Train(**train), model, run, 42, benchmarks(*texts))
    drops = {drop.id: drop.reason for drop in read_records(outcome.folder / "dropped.parquet", Drop)}
    return outcome, list(read_records(outcome.folder / "icldist.parquet", TrainingRow)), drops


def written(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(("record", "expected"), [
    ({"instruction": "Add.", "input": "1 and 2", "output": "3"}, ("alpaca", "Add.\n\n1 and 2", "3")),
    ({"instruction": "Say hello.", "input": "", "output": "Hello"}, ("alpaca", "Say hello.", "Hello")),
    ({"instruction": "Why?", "response": "So.", "instruction_source": "p3"}, ("lamini", "Why?", "So.")),
    ({"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"},
                   {"role": "assistant", "content": "So."}]}, ("messages", "Be short.\n\nWhy?", "So.")),
    ({"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
     ("messages", "Why?", "So.")),
    ({"prompt": "Why?", "completion": "So.", "id": 3}, ("columns", "Why?", "So.")),
    ({"instruction": "Who?", "context": "Ann is.", "response": "Ann"}, ("lamini", "Who?\n\nAnn is.", "Ann")),
    ({"system": "Be short.", "prompt": "Why?", "response": "So."}, ("columns", "Be short.\n\nWhy?", "So.")),
    ({"instruction": None, "input": "Why?", "output": 3}, ("alpaca", "Why?", "3"))])
def test_each_form_is_known_by_its_columns(record: dict[str, Any], expected: tuple[str, str, str]) -> None:
    form, take, _ = form_of(FileRows(kind="jsonl", path="x"), record)
    assert (form, *(take(record) or ())) == expected


def test_columns_that_say_nothing_are_named() -> None:
    with pytest.raises(InputError, match=r"columns body, title.*prompt_column"):
        form_of(FileRows(kind="jsonl", path="x"), {"title": "a", "body": "b"})
    source = FileRows(kind="jsonl", path="x", prompt_column="title", completion_column="body")
    assert form_of(source, {"title": "a", "body": "b"})[1]({"title": "a", "body": "b"}) == ("a", "b")


@given(st.lists(st.sampled_from(["user", "assistant", "system", "tool"]), max_size=5))
def test_a_conversation_is_one_question_and_its_answer_or_none(roles: list[str]) -> None:
    turns = [{"role": role, "content": f"{place}"} for place, role in enumerate(roles)]
    whole = [role for role in roles if role != "system"] == ["user", "assistant"]
    assert (one_turn(turns) is not None) == whole


def test_every_row_is_kept_or_dropped_with_a_reason(tiny_model: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", [
        *({"messages": [{"role": "user", "content": f"Is {i} even?"}, {"role": "assistant", "content": "yes"}]}
          for i in range(20)),
        {"messages": [{"role": "user", "content": "Is 3 even?"}, {"role": "assistant", "content": "yes"}]},
        {"messages": [{"role": "user", "content": " Is 4 even?\n"}, {"role": "assistant", "content": "yes "}]},
        {"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "yes"}]},
        {"messages": [{"role": "user", "content": "one"}]},
        {"messages": [{"role": "user", "content": "long " * 200}, {"role": "assistant", "content": "yes"}]},
        {"messages": [{"role": "user", "content": f"Review: {LEAK}"}, {"role": "assistant", "content": "bad"}]}])
    rows = Rows(icldist=[FileRows(kind="jsonl", path=path)])
    outcome, kept, drops = take_in(rows, tiny_model, tmp_path / "run", LEAK, max_length=100)
    (empty, counts) = outcome.row_counts
    assert (empty.n_in, counts.n_in, counts.n_out) == (0, 26, 20) and len(kept) == 20
    assert counts.dropped == {"duplicate": 2, "empty": 1, "several_turns": 1, "too_long_student": 1,
                              "benchmark_contained": 1}
    assert set(drops.values()) == set(counts.dropped)
    assert {row.family for row in kept} == {"general"} and kept[0].prompt == "Is 0 even?"


def test_short_sentences_of_the_benchmark_are_found_where_they_stand_alone(tiny_model: Path, tmp_path: Path) -> None:
    short = "Great food, rude staff."
    path = written(tmp_path / "rows.jsonl", [
        {"instruction": "What is the sentiment?", "input": short, "output": "mixed"},
        {"instruction": f"Label it.\nSentence: \"{short}\"\nLabel:", "input": "", "output": "mixed"},
        {"instruction": short, "input": "", "output": "mixed"},
        {"instruction": "Great food is served where rude staff is absent.", "input": "", "output": "true"}])
    outcome, kept, _ = take_in(Rows(icldist=[FileRows(kind="jsonl", path=path)]), tiny_model, tmp_path / "run", short)
    assert outcome.row_counts[1].dropped == {"benchmark_exact": 3} and len(kept) == 1


@pytest.mark.parametrize("around", [
    'What is the sentiment of "{}"?', 'Review: "{}" Label:', "Text: {} Sentiment:", "1. {}", "Review:{}",
    "Review: Text: {}", "**Review:** {}", "Tweet - {}", "<text>{}</text>", r"Sentence: {}\nLabel:", "Text: '{}' => ?",
    "Is this positive? {} Say yes or no.", "| {} |", "“{}” – what does it say?"])
def test_a_short_sentence_is_a_piece_of_its_own_whatever_stands_around_it(around: str) -> None:
    short = "Great food, rude staff."
    found = {normal_form(piece) for piece in pieces_of(around.format(short), "x")}
    assert normal_form(short) in found


@pytest.mark.parametrize("marks", ["::::", ": | ", " - ", "=>", "a:", "? "])
def test_the_pieces_of_a_line_grow_with_its_length_only(marks: str) -> None:
    short = "Great food, rude staff."
    line, longer = (marks * n + f" : {short} : " + marks * n for n in (100, 200))
    assert len(list(_short_spans(longer))) < 2.5 * len(list(_short_spans(line)))
    assert normal_form(short) in {normal_form(piece) for piece in pieces_of(line)}


def test_numbers_and_words_that_look_like_nothing_are_answers(tiny_model: Path, tmp_path: Path) -> None:
    answers = ["0", "4", "2.5", "None", "NA", "null", "nan"]
    (tmp_path / "rows.csv").write_text("prompt,completion\n" + "".join(
        f"Question {place}?,{answer}\n" for place, answer in enumerate(answers)))
    (tmp_path / "stars.csv").write_text("prompt,completion\nHow many stars?,4\nAnd here?,0\n")
    rows = Rows(icldist=[FileRows(kind="csv", path=str(tmp_path / name)) for name in ("rows.csv", "stars.csv")])
    outcome, kept, _ = take_in(rows, tiny_model, tmp_path / "run")
    assert outcome.row_counts[1].dropped == {}
    assert {row.completion for row in kept} == set(answers)


def test_conversations_in_two_columns_are_read_and_what_is_no_text_is_dropped(tiny_model: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", [
        {"prompt": [{"role": "user", "content": "Why?"}], "completion": [{"role": "assistant", "content": "So."}]}])
    _, kept, _ = take_in(Rows(icldist=[FileRows(kind="jsonl", path=path)]), tiny_model, tmp_path / "a")
    assert [(row.prompt, row.completion) for row in kept] == [("Why?", "So.")]
    path = written(tmp_path / "numbers.jsonl", [{"prompt": word, "completion": True} for word in ("Why?", "How?")])
    with pytest.raises(InputError, match=r"None of the 2 rows.*'not_text': 2.*prompt_column"):
        take_in(Rows(icldist=[FileRows(kind="jsonl", path=path)]), tiny_model, tmp_path / "b")
    assert one_turn("text") is one_turn([None]) is one_turn(["a"]) is None


def test_a_limit_chooses_by_content_not_by_order(tiny_model: Path, tmp_path: Path) -> None:
    records = [{"prompt": f"Is {i} even?", "completion": "yes"} for i in range(30)]
    chosen = []
    for name, some in (("a", records), ("b", records[::-1])):
        rows = Rows(icldist=[FileRows(kind="jsonl", path=written(tmp_path / f"{name}.jsonl", some), limit=7)])
        outcome, kept, _ = take_in(rows, tiny_model, tmp_path / name)
        assert outcome.row_counts[1].dropped == {"over_limit": 23}
        chosen.append({row.prompt for row in kept})
    assert chosen[0] == chosen[1] and len(chosen[0]) == 7


def test_sentibench_rows_are_its_train_split_asked_as_in_the_evaluation(tiny_model: Path, tmp_path: Path) -> None:
    task = get_task("sst2")
    items = load_split(task, DATA, "train")
    source = SentiBenchRows(kind="sentibench", tasks=["sst2"], demonstrations=2)
    found = list(training_rows(source, DATA, "paper", 42))
    assert [answer for _, _, answer in found] == [item.label_text for item in items]
    for item, (_, prompt, _) in zip(items, found, strict=True):
        assert prompt.count(item.sentence) == 1 and prompt.count("Sentence:") == 3
        assert prompt.endswith("Label:")
    outcome, kept, _ = take_in(Rows(icldist=[source]), tiny_model, tmp_path / "run", items[0].sentence)
    counts = outcome.row_counts[1]
    assert counts.n_in == len(items) == counts.n_out + sum(counts.dropped.values())
    assert not [row for row in kept if items[0].sentence in row.prompt] and {row.family for row in kept} == {"icldist"}


@pytest.mark.parametrize(("content", "message"), [
    ('{"prompt": "a", "completion": "b"}\nnot json', "cannot be read as rows"),
    (json.dumps({"prompt": "word " * 3000, "completion": "yes"}), "None of the 1 rows .*too_long"),
    ('{"prompt": "a", "completion": ""}', "None of the 1 rows of icldist is left.*empty")])
def test_files_that_cannot_be_used_are_refused(tiny_model: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "rows.jsonl").write_text(content)
    rows = Rows(icldist=[FileRows(kind="jsonl", path=str(tmp_path / "rows.jsonl"))])
    with pytest.raises(InputError, match=message):
        take_in(rows, tiny_model, tmp_path / "run")
    with pytest.raises(InputError, match="There is no file"):
        take_in(Rows(icldist=[FileRows(kind="jsonl", path=str(tmp_path / "none.jsonl"))]), tiny_model, tmp_path / "run")


def config(**more: Any) -> Config:
    return validate({"name": "x", "student": {"model": {"name": "random-tiny"}}, **more}, "x")


@pytest.mark.parametrize(("more", "message"), [
    ({}, "'corpus' is missing, and so is 'rows'"),
    ({"rows": {}}, "rows names no source"),
    ({"rows": {"icldist": [{"kind": "sentibench"}]}, "corpus": {"sources": [{"kind": "text", "path": "x"}]}},
     "both 'corpus' and 'rows'"),
    ({"rows": {"icldist": [{"kind": "sentibench"}]}, "train": {"stages": ["knowdist"]}}, "names no source of such"),
    ({"rows": {"icldist": [{"kind": "sentibench"}]}, "evaluate": {"models": ["teacher"]}}, "the config has none"),
    ({"rows": {"icldist": [{"kind": "jsonl", "path": "x", "form": "columns"}]}}, "needs prompt_column"),
    ({"rows": {"icldist": [{"kind": "sentibench"}]}, "train": {"stages": ["icldist", "knowdist"]}}, "stages can be")])
def test_a_config_without_rows_or_with_two_origins_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config(**more)


def test_without_a_teacher_none_is_evaluated() -> None:
    found = config(rows={"icldist": [{"kind": "sentibench"}]})
    assert found.evaluate.models == ["base", "distilled"]


def test_a_step_that_needs_a_section_which_the_config_has_not_names_it(tmp_path: Path) -> None:
    run = Run(config(rows={"icldist": [{"kind": "sentibench"}]}), tmp_path)
    for name in ("corpus", "teacher"):
        with pytest.raises(InputError, match=f"no '{name}', which this step needs"):
            getattr(run, name)
    with pytest.raises(InputError, match="no 'teacher'"):
        teacher_folder(run)
    assert run.rows is run.config.rows
