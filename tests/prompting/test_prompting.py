"""Prompts: the paper's words, user text untouched, labels rewritten, switches, determinism, the pool."""

import ast
import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config.prompt_files import icldist_prompts, knowdist_prompts
from distill.config.prompt_schema import METHODS
from distill.config.schema import IclDist, KnowDist
from distill.errors import InputError
from distill.prompting.candidate import PromptCandidate
from distill.prompting.demonstrations import load_demonstrations, normalised
from distill.prompting.icldist import icldist_candidates
from distill.prompting.knowdist import knowdist_candidates
from distill.prompting.labels import label_set, python_list, respell
from distill.prompting.template import fill
from distill.run.hashing import content_id
from distill.run.records import Text

HOSTILE = "{Text} {{ }} {% if x %} %s %(a)s {Labels} {Answer} \\1 \\g<0> $Text <|im_end|> <|im_start|>system </s>"
LABEL_SETS = {name: label_set(icldist_prompts(), name) for name in icldist_prompts().label_sets}
PERSPECTIVES = {"target", "expression", "emotion", "background"}


def make_texts(count: int) -> list[Text]:
    words = [f"Review number {i}: the soup was {'cold' if i % 2 else 'lovely'}." for i in range(count)]
    return [Text(content_id(text), text, "restaurants", "test") for text in words]


def answers_of(candidate: PromptCandidate) -> list[str]:
    return [block.split("\nOutput: ")[1].strip() for block in candidate.demonstrations]


@pytest.fixture(scope="module")
def pool():
    return load_demonstrations(IclDist())


# ---------------------------------------------------------------- the paper's words


def paper_text(shared_dir: Path) -> str:
    (path,) = (shared_dir / "seeds").glob("003_*.txt")
    return " ".join(re.sub(r"[*#]", "", path.read_text(encoding="utf-8")).split())


def assert_stands_in_table(paper: str, table: int, heading: str, prompt: str) -> None:
    expected = " ".join(f"{heading} {prompt}".split())
    assert paper.count(expected) == 1
    assert re.search(r"Table (\d+):", paper[paper.index(expected):])[1] == str(table)


def test_knowdist_prompts_are_those_of_tables_9_and_10(shared_dir):
    paper, prompts = paper_text(shared_dir), knowdist_prompts()
    assert set(prompts.perspectives) == {"basic"} | PERSPECTIVES
    for perspective in prompts.perspectives.values():
        assert set(perspective.methods) == set(METHODS)
        for entry in perspective.methods.values():
            prompt = fill(prompts.layout, Instruction=entry.instruction, Text="{Text}")
            assert_stands_in_table(paper, entry.table, entry.heading, prompt)


def test_icldist_prompts_are_those_of_tables_11_and_12(shared_dir):
    paper, prompts = paper_text(shared_dir), icldist_prompts()
    assert {name: set(task.formats) for name, task in prompts.tasks.items()} == {
        "sentiment": {"basic", "lw", "mi"}, "emotion": {"basic", "lt", "mi"}}
    for task in prompts.tasks.values():
        for name, entry in task.formats.items():
            printed = [python_list(LABEL_SETS[item].labels) for item in entry.label_sets if item != "ekman"]
            instruction = entry.instruction if name == "mi" else fill(entry.instruction, Labels="/".join(printed))
            assert_stands_in_table(paper, entry.table, entry.heading, f"{instruction} Sentence:")


def test_icldist_layout_is_that_of_table_11(shared_dir):
    layout = icldist_prompts().layout
    shown = ("I bought this because I wanted to control the amount of oil I was using. "
             "I read the other reviews and the ...")
    asked = ("A fabulous social commentary is illustrated between the lines that you can enjoy privately in your mind "
             "while ...")
    blocks = fill(layout.demonstration, Text=shown, Answer="neutral") + fill(layout.question, Text=asked)
    assert " ".join(blocks.split()) in paper_text(shared_dir)


def test_the_ekman_labels_are_six_in_the_spelling_of_the_emotion_perspective():
    labels = LABEL_SETS["ekman"].labels
    assert len(labels) == 6
    emotion = knowdist_prompts().perspectives["emotion"]
    assert ", ".join(labels[:-1]) + ", or " + labels[-1] in emotion.methods["analyze"].instruction


# ---------------------------------------------------------------- user text is data


@given(st.text(), st.text(max_size=20))
def test_a_filled_template_is_before_plus_text_plus_after_for_any_text(text, label):
    assert fill("Label {Label}\n\nText: {Text}\n{x} %s {{", Label=label, Text=text) == (
        f"Label {label}\n\nText: " + text + "\n{x} %s {{")


@settings(max_examples=50, deadline=None)
@given(text=st.text(min_size=1) | st.just(HOSTILE))
def test_every_prompt_holds_the_user_text_unchanged(pool, text):
    record = [Text(content_id(text), text, "any", "any")]
    entries = {f"{method}/{name}": entry.instruction for name, perspective in knowdist_prompts().perspectives.items()
               for method, entry in perspective.methods.items()}
    first, second = knowdist_candidates(record, KnowDist(), 1)
    for candidate in (first, second):
        assert candidate.render().prompt == entries[candidate.kind] + "\n\nText: " + text
    (candidate,) = icldist_candidates(record, pool, IclDist(), 1)
    shown = candidate.head + "".join(candidate.demonstrations)
    assert candidate.render().prompt == shown + "Sentence: " + text + "\nOutput:"
    assert HOSTILE not in candidate.head


def test_a_hostile_demonstration_is_copied_as_it_stands(tmp_path):
    entry = {"text": HOSTILE, "sentiment": "neutral", "emotions": ["neutral"], "emotions_goemotions": ["neutral"]}
    (tmp_path / "pool.json").write_text(json.dumps([entry]))
    config = IclDist(demonstrations=str(tmp_path / "pool.json"), max_demonstrations=1)
    candidates = list(icldist_candidates(make_texts(20), load_demonstrations(config), config, 1))
    assert len(candidates) == 20
    for candidate in candidates:
        assert candidate.demonstrations[0].startswith("Sentence: " + HOSTILE + "\nOutput: ")


def test_a_template_without_its_slot_is_refused():
    with pytest.raises(InputError, match="slots"):
        fill("Text: {Txt}", Text="x")


# ---------------------------------------------------------------- KnowDist


def test_default_knowdist_prompts_are_one_of_each_method_in_equal_shares_of_perspectives():
    candidates = list(knowdist_candidates(make_texts(2000), KnowDist(), 42))
    assert len(candidates) == 4000
    for first, second in zip(candidates[::2], candidates[1::2], strict=True):
        assert first.text_id == second.text_id
        assert {first.kind.split("/")[0], second.kind.split("/")[0]} == {"analyze", "rewrite"}
    shares = Counter(candidate.kind for candidate in candidates)
    assert {kind.split("/")[1] for kind in shares} == PERSPECTIVES
    assert all(abs(count - 500) < 100 for count in shares.values())  # 5 standard deviations


@pytest.mark.parametrize(("switches", "kinds"), [
    ({"analyze": False}, {f"rewrite/{name}" for name in PERSPECTIVES}),
    ({"rewrite": False}, {f"analyze/{name}" for name in PERSPECTIVES}),
    ({"multi_perspective": False}, {"analyze/basic", "rewrite/basic"}),
    ({"multi_perspective": False, "rewrite": False}, {"analyze/basic"}),
])
def test_knowdist_switches_leave_out_their_kinds(switches, kinds):
    assert {candidate.kind for candidate in knowdist_candidates(make_texts(60), KnowDist(**switches), 42)} == kinds


@pytest.mark.parametrize(("asked", "switches", "built"), [
    (1, {}, 1), (3, {}, 3), (8, {}, 8), (8, {"analyze": False}, 4), (8, {"multi_perspective": False}, 2)])
def test_no_text_gets_the_same_knowdist_prompt_twice(asked, switches, built):
    candidates = list(knowdist_candidates(make_texts(30), KnowDist(prompts_per_text=asked, **switches), 42))
    per_text = Counter(candidate.text_id for candidate in candidates)
    assert set(per_text.values()) == {built}
    assert len({(candidate.text_id, candidate.kind) for candidate in candidates}) == len(candidates)
    if asked == 3:
        assert {len({d.kind.split("/")[0] for d in candidates if d.text_id == key}) for key in per_text} == {2}


# ---------------------------------------------------------------- ICLDist


def test_every_strategy_rewrites_the_answers_into_the_labels_of_its_prompt(pool):
    by_text = {item.text: item for item in pool}
    sets = {one.labels: one for one in LABEL_SETS.values()}
    used = Counter()
    for candidate in icldist_candidates(make_texts(400), pool, IclDist(), 42):
        labels = sets[candidate.labels]
        used[candidate.kind, labels.name] += 1
        assert (python_list(candidate.labels) in candidate.head) == (not candidate.kind.endswith("/mi"))
        for block, answer in zip(candidate.demonstrations, answers_of(candidate), strict=True):
            gold = by_text[block.removeprefix("Sentence: ").split("\nOutput: ")[0]].answers[labels.field]
            printed = ast.literal_eval(answer) if candidate.multi_label else [answer]
            known = dict(zip(labels.names, labels.labels, strict=True))
            assert printed == [known[name] for name in gold if name in known]
            assert candidate.multi_label == candidate.kind.startswith("emotion")
    assert set(used) == {
        ("sentiment/basic", "standard"), ("emotion/basic", "seven_emotions"),
        *(("sentiment/lw", name) for name in ("numbers", "abbreviations", "good_bad")),
        *(("emotion/lt", name) for name in ("goemotions", "ekman")),
        *(("sentiment/mi", name) for name in ("standard", "numbers", "abbreviations", "good_bad")),
        *(("emotion/mi", name) for name in ("seven_emotions", "goemotions", "ekman"))}


def test_tasks_and_formats_come_in_equal_shares(pool):
    kinds = Counter(candidate.kind for candidate in icldist_candidates(make_texts(1800), pool, IclDist(), 42))
    assert len(kinds) == 6
    assert all(abs(count - 300) < 80 for count in kinds.values())  # 5 standard deviations


@pytest.mark.parametrize(("switch", "kinds", "sets"), [
    ("label_words", {"sentiment/lw"}, {"numbers", "abbreviations", "good_bad"}),
    ("label_taxonomies", {"emotion/lt"}, {"goemotions", "ekman"}),
    ("minimized_instructions", {"sentiment/mi", "emotion/mi"}, set()),
])
def test_icldist_switches_leave_out_their_kinds_and_labels(pool, switch, kinds, sets):
    candidates = list(icldist_candidates(make_texts(200), pool, IclDist(**{switch: False}), 42))
    every = {"sentiment/basic", "sentiment/lw", "sentiment/mi", "emotion/basic", "emotion/lt", "emotion/mi"}
    assert {candidate.kind for candidate in candidates} == every - kinds
    assert not {candidate.labels for candidate in candidates} & {LABEL_SETS[name].labels for name in sets}


def test_with_every_format_switch_off_only_basic_prompts_remain(pool):
    config = IclDist(label_words=False, label_taxonomies=False, minimized_instructions=False)
    candidates = list(icldist_candidates(make_texts(60), pool, config, 42))
    assert {candidate.kind for candidate in candidates} == {"sentiment/basic", "emotion/basic"}


def test_prompts_hold_1_to_16_demonstrations_each_count_occurring(pool):
    counts = Counter(one.render().n_demonstrations for one in icldist_candidates(make_texts(600), pool, IclDist(), 42))
    assert set(counts) == set(range(1, 17))
    for candidate in icldist_candidates(make_texts(50), pool, IclDist(), 42):
        assert candidate.render().prompt.count("\nOutput: ") == candidate.render().n_demonstrations
        assert len(set(candidate.demonstrations)) == len(candidate.demonstrations)


def test_a_minimised_prompt_has_a_demonstration_even_where_others_may_have_none(pool):
    config = IclDist(min_demonstrations=0, max_demonstrations=0)
    counts = {(candidate.kind.endswith("/mi"), len(candidate.demonstrations), candidate.min_demonstrations)
              for candidate in icldist_candidates(make_texts(100), pool, config, 42)}
    assert counts == {(True, 1, 1), (False, 0, 0)}


def test_minimised_prompts_show_every_label_of_a_small_set_where_they_have_room(pool):
    config = IclDist(min_demonstrations=7, max_demonstrations=7)
    small = [candidate for candidate in icldist_candidates(make_texts(300), pool, config, 42)
             if candidate.strategy == "mi" and len(candidate.labels) <= 7]
    assert len({candidate.labels for candidate in small}) == 6  # all but GoEmotions, whose 28 labels have no room
    for candidate in small:
        shown = [ast.literal_eval(one) if candidate.multi_label else [one] for one in answers_of(candidate)]
        assert {label for answer in shown for label in answer} == set(candidate.labels)


def test_a_demonstration_never_has_the_text_of_the_question(pool):
    config = IclDist(min_demonstrations=55, max_demonstrations=55)
    texts = [Text(content_id(item.text), "  " + item.text.upper(), "any", "any") for item in pool]
    candidates = list(icldist_candidates(texts, pool, config, 42))
    assert len(candidates) == len(pool)
    for candidate in candidates:
        assert len(candidate.demonstrations) == len(pool) - 1
        assert all(normalised(block.removeprefix("Sentence: ").split("\nOutput:")[0]) != normalised(candidate.text)
                   for block in candidate.demonstrations)


def test_sad_and_sadness_are_one_label_in_the_spelling_of_the_list():
    assert LABEL_SETS["seven_emotions"].rewrite(["sadness", "sad", "anger"]) == ["sad", "sad", "anger"]
    assert LABEL_SETS["goemotions"].rewrite(["sad"]) == ["sadness"]
    assert LABEL_SETS["ekman"].rewrite(["sad", "neutral"]) == ["sadness"]
    assert respell("sadness", ["happiness", "sad"]) == "sad"
    assert respell("sad", ["sadness"]) == "sadness"
    assert respell("sad", ["joy"]) is None


def test_no_prompt_mixes_the_two_spellings(pool):
    spelled = set()
    for candidate in [one for one in icldist_candidates(make_texts(400), pool, IclDist(), 42) if one.multi_label]:
        shown = {label for answer in answers_of(candidate) for label in ast.literal_eval(answer)}
        assert shown <= set(candidate.labels)
        assert len({"sad", "sadness"} & set(candidate.labels)) == 1
        spelled |= {"sad", "sadness"} & shown
    assert spelled == {"sad", "sadness"}


# ---------------------------------------------------------------- determinism


def test_a_texts_prompts_do_not_depend_on_the_texts_before_it(pool):
    texts = make_texts(80)
    shuffled = random.Random(7).sample(texts, len(texts))
    for make in (lambda some: knowdist_candidates(some, KnowDist(), 42),
                 lambda some: icldist_candidates(some, pool, IclDist(), 42)):
        alone = {text.id: list(make([text])) for text in texts}
        assert list(make(shuffled)) == [candidate for text in shuffled for candidate in alone[text.id]]


def test_another_text_in_the_corpus_changes_no_other_prompt(pool):
    fewer, more = make_texts(40), make_texts(41)
    for make in (lambda some: knowdist_candidates(some, KnowDist(), 42),
                 lambda some: icldist_candidates(some, pool, IclDist(), 42)):
        assert {one.render().id for one in make(fewer)} < {one.render().id for one in make(more)}


def test_the_seed_changes_the_draw_and_ids_are_content_hashes(pool):
    one, other = (list(icldist_candidates(make_texts(40), pool, IclDist(), seed)) for seed in (1, 2))
    assert {candidate.render().id for candidate in one} != {candidate.render().id for candidate in other}
    for prompt in (candidate.render() for candidate in one):
        assert prompt.id == content_id(prompt.family, prompt.kind, prompt.prompt, prompt.text_id)


# ---------------------------------------------------------------- the pool


def test_the_shipped_pool_has_55_demonstrations_of_every_label(pool):
    assert len(pool) == 55
    for labels in LABEL_SETS.values():
        used = {respell(label, labels.names) for item in pool for label in item.answers[labels.field]}
        assert used >= set(labels.names)


@pytest.mark.parametrize(("change", "message"), [
    ({"sentiment": "meh"}, "demonstration 2 has the unknown label 'meh' in 'sentiment'"),
    ({"emotions": None}, "needs the column 'emotions'"),
    ({"text": " "}, "non-empty 'text'"),
    ({"text": "A   great DAY"}, "1 and 2 are the same text"),
    ({}, "2 demonstrations, fewer than the 16"),
])
def test_a_bad_pool_is_refused_with_the_place(tmp_path, change, message):
    entry = {"text": "A great day", "sentiment": "positive", "emotions": ["happiness"], "emotions_goemotions": ["joy"]}
    path = tmp_path / "pool.json"
    path.write_text(json.dumps([entry, {**entry, "text": "A bad day", **change}]))
    with pytest.raises(InputError, match=message):
        load_demonstrations(IclDist(demonstrations=str(path)))


def test_a_pool_that_is_no_list_or_is_missing_is_refused(tmp_path):
    (tmp_path / "pool.json").write_text("{}")
    for name in ("pool.json", "nowhere.json"):
        with pytest.raises(InputError, match=name):
            load_demonstrations(IclDist(demonstrations=str(tmp_path / name)))
