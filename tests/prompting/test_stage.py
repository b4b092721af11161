"""The prompts stage: what fits is kept, what does not is shortened or counted, and the books balance."""

import json
from pathlib import Path

import pytest

from distill.config.schema import IclDist, Prompts
from distill.errors import InputError, RunError
from distill.prompting.batch import Fitter, Tally
from distill.prompting.build import build_prompts
from distill.prompting.candidate import PromptCandidate
from distill.prompting.decontaminate import Benchmark
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.files import read_prompts
from distill.prompting.length import limits
from distill.run.hashing import content_id, id_hash
from distill.run.records import BenchmarkText, Drop, Prompt, Text, read_records, write_records
from tests.prompting.test_prompting import make_texts
from tests.prompting.test_tasks import write_task

ANSWERS = {"knowdist": 10, "icldist": 5, "general": 5}


def count_words(prompts: list[str]) -> list[int]:
    return [len(prompt.split()) for prompt in prompts]


def word_limits(teacher: int = 5000, student: int = 5000):
    return limits(ANSWERS, count_words, teacher, count_words, student)


def few_shot(text: str, demonstrations: int = 4, min_demonstrations: int = 1,
             kind: str = "sentiment/basic") -> PromptCandidate:
    blocks = tuple(f"shown{i} shown{i}\n" for i in range(demonstrations))
    return PromptCandidate("icldist", kind, content_id(text), text, text, 42, "head ", blocks, min_demonstrations)


def fit(candidates, some_limits, wanted=100, batch=256):
    """Return the prompts as a list of dictionaries, the drops, and the account."""
    fitter, tally, prompts, drops = Fitter(some_limits), Tally(wanted), [], []
    for at in range(0, len(candidates), batch):
        part, dropped = tally.take(fitter([candidate] for candidate in candidates[at:at + batch]))
        assert [id_hash(key) for key in part.prompts["id"].to_pylist()] == part.keys.tolist()
        prompts += part.prompts.to_pylist()
        drops += dropped
        if tally.n_out == wanted:
            break
    assert tally.n_in == tally.n_out + tally.dropped.total() and len(drops) == tally.dropped.total()
    return prompts, drops, tally


# ---------------------------------------------------------------- the length check


def test_the_window_holds_prompt_answer_and_the_students_end_token_exactly():
    candidate = few_shot("one", demonstrations=0, min_demonstrations=0)  # two words
    for some_limits, reason in [(word_limits(student=8), None), (word_limits(student=7), "too_long_student"),
                                (word_limits(teacher=7), None), (word_limits(teacher=6), "too_long_teacher")]:
        prompts, drops, _ = fit([candidate], some_limits)
        assert [drop.reason for drop in drops] == ([reason] if reason else [])
        assert len(prompts) == (0 if reason else 1)


def test_an_answer_longer_than_the_students_window_leaves_half_of_it_to_the_prompt():
    candidate = few_shot("one", demonstrations=0, min_demonstrations=0)
    long = limits(dict.fromkeys(ANSWERS, 4096), count_words, 5000, count_words, 5)
    assert not fit([candidate], long)[1]
    longer = few_shot("one two three", demonstrations=0, min_demonstrations=0)
    assert [drop.reason for drop in fit([longer], long)[1]] == ["too_long_student"]


def test_a_prompt_is_shortened_from_the_front_by_as_little_as_needed():
    (prompt,), _, tally = fit([few_shot("one")], word_limits(student=1 + 5 + 2 + 2 * 2))
    assert prompt["prompt"] == "head shown2 shown2\nshown3 shown3\none"
    assert prompt["n_demonstrations"] == 2 and tally.shortened == 1
    assert prompt["id"] == content_id("icldist", "sentiment/basic", prompt["prompt"], prompt["text_id"])
    assert prompt["id"] != few_shot("one").render().id


def test_shortening_keeps_the_demonstrations_a_prompt_must_have():
    prompts, drops, tally = fit([few_shot("one", min_demonstrations=2)], word_limits(student=1 + 5 + 2 + 2 * 1))
    assert not prompts and tally.shortened == 0
    assert [drop.reason for drop in drops] == ["too_long_student"]
    assert "2 demonstrations" in drops[0].detail


def test_dropped_prompts_are_replaced_by_later_ones_until_enough_are_built():
    candidates = [few_shot("long " * 50 + str(i) if i % 2 else f"short {i}") for i in range(40)]
    prompts, drops, tally = fit(candidates, word_limits(student=30), wanted=7)
    assert len(prompts) == tally.n_out == 7
    assert tally.n_in == 13 and len(drops) == 6
    assert prompts[-1]["prompt"].endswith("short 12")


@pytest.mark.parametrize("batch", [1, 3, 256])
def test_the_result_does_not_depend_on_the_batch(batch):
    candidates = [few_shot("word " * (i % 12) + str(i // 2), kind=f"sentiment/{i % 2}") for i in range(50)]
    expected = fit(candidates, word_limits(student=20), wanted=15)
    assert fit(candidates, word_limits(student=20), wanted=15, batch=batch) == expected
    assert fit(candidates, word_limits(student=20), batch=batch) == fit(candidates, word_limits(student=20))


@pytest.mark.parametrize("batch", [1, 256])
def test_the_same_prompt_twice_is_counted_as_a_duplicate(batch):
    candidates = [few_shot("one"), few_shot("one", kind="other"), few_shot("one"), few_shot("two"), few_shot("two")]
    prompts, drops, tally = fit(candidates, word_limits(), batch=batch)
    assert len(prompts) == 3 and tally.n_in == 5
    assert [drop.reason for drop in drops] == ["duplicate_prompt"] * 2


def test_what_is_remembered_to_find_duplicates_is_one_text_of_each_kind():
    fitter = Fitter(word_limits())
    fitter([few_shot(str(n), kind=f"kind {k}") for k in range(3)] for n in range(200))
    assert len(fitter._seen) == 3 and all(len(ids) == 1 for _, ids in fitter._seen.values())


# ---------------------------------------------------------------- the stage


@pytest.fixture
def tasks(tmp_path) -> Path:
    for name in ("one", "two", "sentiment"):
        write_task(tmp_path / "tasks" / f"{name}.json")
    return tmp_path / "tasks"


def settings(tasks: Path, knowdist: int = 20, icldist: int = 12, general: int = 8, enabled: bool = True) -> Prompts:
    return Prompts.model_validate({
        "knowdist": {"samples": knowdist}, "icldist": {"samples": icldist},
        "general": {"samples": general, "path": str(tasks), "enabled": enabled}})


def build(run: Path, config: Prompts, count: int = 50, **options):
    path = run.with_suffix(".parquet")
    write_records(path, Text, options.pop("texts", make_texts(count)))
    some_limits = options.pop("limits", word_limits())
    return build_prompts(config, path, 42, run, some_limits, {"tokenizers": "words"}, **options)


def stored(run: Path, stage: str) -> list[Prompt]:
    return list(read_prompts(run, stage))


def test_the_stage_writes_both_files_and_its_books_balance(tmp_path, tasks):
    outcome = build(tmp_path / "run", settings(tasks))
    first, second = stored(tmp_path / "run", "knowdist"), stored(tmp_path / "run", "icldist")
    assert {prompt.family for prompt in first} == {"knowdist"} and len(first) == 20
    assert [sum(p.family == name for p in second) for name in ("icldist", "general")] == [12, 8]
    assert len({prompt.id for prompt in first + second}) == 40
    books = {counts.stage: counts for counts in outcome.row_counts}
    assert {name: counts.n_out for name, counts in books.items()} == {
        "prompts/knowdist": 20, "prompts/icldist": 12, "prompts/general": 8}
    details = outcome.details
    assert details["general"]["tasks_left_out"] == {"sentiment.json": "file name says 'sentiment'"}
    assert sum(details["knowdist"]["kinds"].values()) == 20
    assert details["icldist"]["mean_demonstrations"] == pytest.approx(
        sum(p.n_demonstrations for p in second if p.family == "icldist") / 12, abs=1e-3)


def test_the_stages_use_different_texts_where_the_corpus_is_large_enough(tmp_path, tasks):
    assert build(tmp_path / "a", settings(tasks), count=22).details["texts_in_both_stages"] == 0
    assert build(tmp_path / "b", settings(tasks), count=21).details["texts_in_both_stages"] == 1


def test_a_corpus_too_small_for_the_samples_gives_what_is_there_and_says_so(tmp_path, tasks):
    details = build(tmp_path / "run", settings(tasks, 100, 100, 1000), count=5).details
    assert {name: (details[name]["asked"], details[name]["built"]) for name in ANSWERS} == {
        "knowdist": (100, 10), "icldist": (100, 5), "general": (1000, 60)}


@pytest.mark.parametrize("change", [{"enabled": False}, {"general": 0}])
def test_without_task_diversification_there_are_no_general_prompts(tmp_path, tasks, change):
    config = settings(tasks.parent / "nowhere", **change)
    outcome = build(tmp_path / "run", config)
    assert {prompt.family for prompt in stored(tmp_path / "run", "icldist")} == {"icldist"}
    assert [counts.stage for counts in outcome.row_counts] == ["prompts/knowdist", "prompts/icldist"]


def test_what_does_not_fit_is_listed_and_counted(tmp_path, tasks):
    texts = [*make_texts(10), Text("long", "endless " * 200, "any", "any")]
    outcome = build(tmp_path / "run", settings(tasks, 100, 100), texts=texts, limits=word_limits(student=150))
    drops = list(read_records(tmp_path / "run" / "prompts" / "dropped.parquet", Drop))
    assert {(drop.stage, drop.reason) for drop in drops} >= {
        ("prompts/knowdist", "too_long_student"), ("prompts/icldist", "too_long_student")}
    assert len(drops) == sum(sum(counts.dropped.values()) for counts in outcome.row_counts)
    assert all(len(drop.excerpt) <= 200 for drop in drops)
    assert outcome.details["icldist"]["shortened"] > 0
    prompts = stored(tmp_path / "run", "knowdist") + stored(tmp_path / "run", "icldist")
    assert all(count + ANSWERS[prompt.family] + 1 <= 150
               for prompt, count in zip(prompts, count_words([p.prompt for p in prompts]), strict=True))


def test_the_stage_is_reused_until_something_it_is_made_from_changes(tmp_path, tasks):
    run, config = tmp_path / "run", settings(tasks)
    build(run, config)
    assert build(run, config).reused
    changes = [{"count": 51}, {"limits": word_limits(student=4000)},
               {"texts": [Text(text.id, text.text + "!", "any", "any") for text in make_texts(50)]}]
    for change in changes:
        with pytest.raises(InputError, match="other settings"):
            build(run, config, **change)
    write_task(tasks / "two.json", Definition="Another definition.")
    with pytest.raises(InputError, match="natural_tasks"):
        build(run, config)
    assert not build(run, config, on_change="discard").reused


def test_task_files_that_change_while_prompts_are_built_leave_no_marker(tmp_path, tasks, monkeypatch):
    from distill.prompting import writer

    original = writer.choose_tasks

    def meddle(*arguments):
        found = original(*arguments)
        write_task(tasks / "late.json")
        return found

    monkeypatch.setattr(writer, "choose_tasks", meddle)
    with pytest.raises(InputError, match="was changed while it was read"):
        build(tmp_path / "run", settings(tasks))
    assert not (tmp_path / "run" / "prompts" / "_done.json").exists()


def test_nothing_to_build_is_an_error_that_says_what_to_change_and_leaves_no_marker(tmp_path, tasks):
    with pytest.raises(InputError, match=r"no texts .* prompts\.knowdist\.samples"):
        build(tmp_path / "run", settings(tasks), count=0)
    with pytest.raises(InputError, match=r"None of 50 icldist prompts .*too_long_student: 50.*max_length"):
        build(tmp_path / "run", settings(tasks, knowdist=0), limits=word_limits(student=20))
    with pytest.raises(InputError, match=r"No prompts are asked for.*all 0"):
        build(tmp_path / "run", settings(tasks, 0, 0, 0))
    assert not (tmp_path / "run" / "prompts" / "_done.json").exists()


def test_a_malformed_task_file_stops_the_stage_with_its_name(tmp_path, tasks):
    (tasks / "one.json").write_text(json.dumps([1, 2]))
    with pytest.raises(InputError, match=r"one\.json"):
        build(tmp_path / "run", settings(tasks))


def test_texts_that_cannot_be_read_are_an_error_that_names_the_file(tmp_path, tasks):
    for data in (None, b"PAR1 and then nothing"):
        if data:
            (tmp_path / "texts.parquet").write_bytes(data)
        with pytest.raises(RunError, match=r"texts\.parquet cannot be read as texts"):
            build_prompts(settings(tasks), tmp_path / "texts.parquet", 42, tmp_path / "run", word_limits(), {})
    write_records(tmp_path / "texts.parquet", Drop, [Drop("a", "b", "c", "d", "e")])
    with pytest.raises(RunError, match=r"texts\.parquet cannot be read as texts"):
        build_prompts(settings(tasks), tmp_path / "texts.parquet", 42, tmp_path / "run", word_limits(), {})
    assert not list((tmp_path / "run").rglob("*.parquet"))


def test_demonstrations_and_natural_tasks_that_stand_in_the_benchmark_are_not_used(tmp_path, tasks):
    demonstration = load_demonstrations(IclDist())[0].text
    leak = "The soup was cold when it came, and nobody at the table said a word."
    write_task(tasks / "one.json", Instances=[{"input": text, "output": ["x"]} for text in (
        f"Turn this around: {leak.upper()}", "a text of its own", "another text of its own")])
    texts = [BenchmarkText(demonstration.replace(" ", "  ") + "!", "one", "test"), BenchmarkText(leak, "one", "test")]
    outcome = build(tmp_path / "run", settings(tasks, 20, 400, 40), 400, benchmark=Benchmark(lambda: texts, "one", 3))
    prompts = [prompt.prompt for prompt in stored(tmp_path / "run", "icldist")]
    assert not [prompt for prompt in prompts if demonstration in prompt or leak.upper() in prompt]
    (books,) = [counts for counts in outcome.row_counts if counts.stage == "prompts/decontaminate"]
    assert books.n_in - books.n_out == sum(books.dropped.values()) == 2
    listed = [drop for drop in read_records(tmp_path / "run" / "prompts" / "dropped.parquet", Drop)
              if drop.stage == "prompts/decontaminate"]
    assert len(listed) == 2 and any(leak.upper() in drop.excerpt for drop in listed)
