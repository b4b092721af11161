"""What a pattern lets through can be read, and what is right is let through; vLLM's own backend reads it alike."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.prompt_files import icldist_prompts
from distill.engines.grammar import labels_pattern, lists_pattern, structure_of, tuples_pattern
from distill.parsing.labels import normalise, parse_answer
from distill.prompting.labels import label_set, python_list
from distill.prompting.tuples import tuples_text
from distill.run.records import Prompt
from sentibench.answering import Method
from sentibench.data import load_split
from sentibench.parsing import read_tuples
from sentibench.registry import all_tasks

SETS = [label_set(icldist_prompts(), name).labels for name in icldist_prompts().label_sets]
LABELS = st.lists(
    st.text("abcXYZ+-.()[]{}|^$*?01 é漢", min_size=1, max_size=8).map(str.strip).filter(normalise),
    min_size=1, max_size=6, unique_by=normalise)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
CLOSED = ("food quality", "it's \"so\"", "NULL")


@pytest.fixture(scope="module")
def accepts(tiny_model: Path) -> Callable[[str, str], bool]:
    """Whether xgrammar, which vLLM uses, lets a whole text through a pattern."""
    xgrammar = pytest.importorskip("xgrammar")
    from distill.models import load_tokenizer

    compiler = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo.from_huggingface(load_tokenizer(tiny_model)))

    def check(pattern: str, text: str) -> bool:
        matcher = xgrammar.GrammarMatcher(compiler.compile_regex(pattern), terminate_without_stop_token=True)
        return matcher.accept_string(text) and matcher.is_terminated()

    return check


@given(st.data())
def test_a_list_of_labels_that_is_let_through_is_read(data: st.DataObject) -> None:
    labels = data.draw(st.sampled_from(SETS) | LABELS)
    answer = data.draw(st.from_regex(labels_pattern(labels), fullmatch=True))
    assert parse_answer(answer, labels, multi_label=True) is not None


@given(st.data())
def test_every_list_that_is_right_is_let_through(data: st.DataObject) -> None:
    labels = data.draw(st.sampled_from(SETS) | LABELS)
    some = data.draw(st.lists(st.sampled_from(labels), max_size=len(labels)))
    assert re.fullmatch(labels_pattern(labels), python_list(some))
    assert not re.fullmatch(labels_pattern(labels), python_list([*some, "another label"]))
    assert not re.fullmatch(labels_pattern(labels), python_list([labels[0]] * (len(labels) + 1)))


@given(st.data())
def test_tuples_that_are_let_through_are_read_with_nothing_left_out(data: st.DataObject) -> None:
    parts = data.draw(st.lists(st.sampled_from([(), CLOSED]), min_size=1, max_size=4))
    answer = data.draw(st.from_regex(tuples_pattern(parts, 5), fullmatch=True))
    read = read_tuples(answer, len(parts))
    assert read.how == "list" and read.n_unread == 0
    assert all(value in CLOSED for one in read.tuples for value, allowed in zip(one, parts, strict=True) if allowed)


@given(st.lists(st.tuples(TEXT, st.sampled_from(CLOSED), TEXT), max_size=4))
def test_what_python_prints_is_let_through_and_read_back(tuples: list[tuple[str, ...]]) -> None:
    pattern = tuples_pattern([(), CLOSED, ()], 4)
    assert re.fullmatch(pattern, repr(tuples))
    assert list(read_tuples(repr(tuples), 3).tuples) == tuples
    assert not re.fullmatch(pattern, repr([("a", "no such category", "b")]))


@pytest.mark.parametrize("labels", SETS, ids=lambda labels: labels[0])
def test_vllms_backend_reads_the_patterns_of_labels_alike(accepts: Callable[[str, str], bool],
                                                          labels: tuple[str, ...]) -> None:
    pattern = " " + labels_pattern(labels)
    right = [" " + python_list(some) for some in ([], labels[:1], labels[:3], labels, [labels[0]] * len(labels))]
    wrong = [python_list(labels[:1]), " " + python_list([*labels, labels[0]]), " ['other']", " [" + labels[0] + "]"]
    for text in right + wrong:
        assert accepts(pattern, text) == bool(re.fullmatch(pattern, text)) == (text in right), text


def test_vllms_backend_reads_the_patterns_of_tuples_alike(accepts: Callable[[str, str], bool]) -> None:
    pattern = tuples_pattern([(), CLOSED, ()], 3)
    right = [repr([("soup\n", CLOSED[0], "a 'b'"), ("é漢\u200b\U0001f600\U000e0001", CLOSED[1], "\"x\" 'y'")]), "[]"]
    wrong = [repr([("a", "b", "c")]), repr([("a", CLOSED[0], "c")] * 4), "[('a', 'NULL', 'b)]", "[('a\n', 'NULL', '')]"]
    for text in right + wrong:
        assert accepts(pattern, text) == bool(re.fullmatch(pattern, text)) == (text in right), text
    pattern = lists_pattern([(), CLOSED], 3)
    right = [tuples_text([("soup\n\x01\\ 'b'", CLOSED[0]), ("é漢\u200b\U0001f600", CLOSED[1])]), "[]"]
    wrong = [tuples_text([("a", "b")]), tuples_text([("a", CLOSED[0])] * 4), "[['a', 'NULL']]", '[["a", "NULL"]']
    for text in right + wrong:
        assert accepts(pattern, text) == bool(re.fullmatch(pattern, text)) == (text in right), text


@pytest.mark.parametrize("name", [task.name for task in all_tasks().values() if task.answer == "tuples"])
def test_every_gold_answer_of_the_benchmark_is_let_through(name: str, shared_dir: Path) -> None:
    task = all_tasks()[name]
    _, pattern = Method(structured=True).structure(task)
    folder = next(path for path in shared_dir.rglob(task.folder) if path.is_dir())
    data_dir = folder.parents[len(Path(task.folder).parts) - 1]
    for split in task.splits:
        for item in load_split(task, data_dir, split):
            assert re.fullmatch(pattern, f" {item.label_text}"), item.label_text


def test_only_prompts_with_a_closed_list_have_a_structure() -> None:
    free = Prompt("a", "t", "knowdist", "analyze/target", "Text:")
    general = Prompt("a", "t", "general", "task", "Output:", labels=["yes", "no"])
    single = Prompt("a", "t", "icldist", "sentiment/lw", "Sentence: x\nOutput:", labels=["+1", "-1"])
    several = Prompt("a", "t", "icldist", "emotion/lt", "Sentence: x\nOutput:", labels=["joy"], multi_label=True)
    assert structure_of(free, True) == structure_of(general, False) == ((), "")
    assert structure_of(single, False) == ((" +1", " -1"), "") and structure_of(single, True) == (("+1", "-1"), "")
    assert [re.fullmatch(structure_of(several, chat)[1], f"{before}['joy']") is not None
            for chat, before in ((True, ""), (False, " "), (True, " "))] == [True, True, False]


@given(st.lists(st.tuples(st.text(), st.sampled_from(["good", "so so"])), max_size=5))
def test_tuples_of_ones_own_as_they_are_distilled_match_their_pattern(tuples: list[tuple[str, str]]) -> None:
    prompt = Prompt("1", "t", "icldist", "own/basic", "?\nOutput:", text="?", tuple_schema=json.dumps(
        {"fields": ["what", "how"], "values": {"how": ["good", "so so"]}}))
    choices, pattern = structure_of(prompt, chat=True)
    assert not choices and re.fullmatch(pattern, tuples_text(tuples))
    assert re.fullmatch(structure_of(prompt, chat=False)[1], f" {tuples_text(tuples)}")
    assert not re.fullmatch(pattern, '[["it", "bad"]]') and not re.fullmatch(pattern, '[["good"]]')
