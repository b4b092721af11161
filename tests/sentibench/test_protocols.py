"""Prompts: the authors' byte for byte, the paper's as printed, and no demonstration that gives the answer away."""

import hashlib
import json
import random
import re
from pathlib import Path

import pytest

from distill.errors import InputError
from sentibench.data import load_split
from sentibench.protocols import (
    PROTOCOLS,
    TaskData,
    build_examples,
    load_task_data,
    prompt_texts,
    prompts_sha256,
    write_prompt,
)
from sentibench.registry import all_tasks, get_task

SHIPPED = "shipped:data/sentibench"
TASKS = list(all_tasks())
# SHA-256 of all prompts of seed 42 on the released data, first 16 digits. The authors' own code (commit 2810fc2) gave
# the same prompts for every task; for atsa, but for aspects that share a position, whose order is chance there.
RELEASED_42 = {
    "imdb": "f08056902ff0c6ac", "yelp2": "52857900491c1894", "sst2": "01c5b6ba81ba5c4f",
    "twitter17": "815ba20494a461e0",
    "irony18": "4df191773e62de53", "emotion20": "e0f1c8fe785812ef", "pstance": "850dfda905480865",
    "mint": "64d5c357ecd15dc1", "atsa": "621b4c5d1f8111d1", "acsa": "d6dff59e95c11079", "asqp": "53a95a0a7ef79100",
    "ssa": "178e94037828fc2d",
}
HEADINGS = {
    "imdb": "BSA - IMDb", "yelp2": "BSA - Yelp2", "sst2": "BSA - SST2", "twitter17": "BSA - Twitter17",
    "irony18": "MSA - Irony Detection - Irony18", "emotion20": "MSA - Emotion Recognition - Emotion20",
    "pstance": "MSA - Stance Detection - P-Stance", "mint": "MSA - Intimacy Analysis - MINT-English",
    "atsa": "FSA - ATSA - Rest16", "acsa": "FSA - ACSA - Rest16", "asqp": "FSA - ASQP - Rest16",
    "ssa": "FSA - SSA - Opener",
}


@pytest.mark.parametrize("name", TASKS)
def test_released_prompts_are_those_of_the_authors(name: str, shared_dir: Path) -> None:
    data = load_task_data(get_task(name), shared_dir / "sentibench", "released")
    assert prompts_sha256(build_examples(get_task(name), data, "released", 42))[:16] == RELEASED_42[name]


@pytest.mark.parametrize("name", TASKS)
def test_paper_prompts_are_those_of_tables_13_to_15(name: str, shared_dir: Path) -> None:
    paper = next((shared_dir / "seeds").glob("003_*.txt")).read_text(encoding="utf-8")
    printed = _plain(paper)
    texts = prompt_texts().paper[name]
    instruction = _plain(texts.instruction.replace("{Target}", "Bernie Sanders"))
    heading = HEADINGS[name]
    assert re.search(re.escape(f"{heading} {instruction} Sentence: "), printed)
    if name == "pstance":
        assert _plain(texts.demonstration.replace("{Label}", "favor").replace("{Target}", "Bernie Sanders")
                      .partition("\n")[2]) in printed


def _plain(text: str) -> str:
    """Undo what the text extraction of the paper added: escapes, headings, and bullets before numbers."""
    text = re.sub(r"^#+ |^- (?=\d\.)", "", text.replace("\\_", "_"), flags=re.MULTILINE)
    return " ".join(text.split())


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", TASKS)
def test_a_prompt_shows_four_demonstrations_and_ends_with_the_question(name: str, protocol) -> None:
    task = get_task(name)
    examples = build_examples(task, load_task_data(task, SHIPPED, protocol), protocol, 42)
    for example in examples:
        assert example.prompt.count("\nSentence: ") >= 5
        assert example.prompt.endswith(f"\nSentence: {example.item.sentence}\nLabel:")
    assert [example.index for example in examples] == list(range(len(examples)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_limit_changes_no_prompt(protocol) -> None:
    task = get_task("sst2")
    data = load_task_data(task, SHIPPED, protocol)
    assert build_examples(task, data, protocol, 42, 3) == build_examples(task, data, protocol, 42)[:3]


def test_released_draws_are_those_of_the_global_generator() -> None:
    task = get_task("sst2")
    data = load_task_data(task, SHIPPED, "released")
    state = random.getstate()
    random.seed(52)
    drawn = [random.sample(list(data.pool), 4) for _ in data.test]
    random.setstate(state)
    expected = [write_prompt(task, prompt_texts().released["sst2"], item, demos)
                for item, demos in zip(data.test, drawn, strict=True)]
    assert [example.prompt for example in build_examples(task, data, "released", 52)] == expected


def test_no_global_random_state_is_touched() -> None:
    state = random.getstate()
    task = get_task("mint")
    for protocol in PROTOCOLS:
        build_examples(task, load_task_data(task, SHIPPED, protocol), protocol, 42)
    assert random.getstate() == state


def test_paper_draws_do_not_depend_on_the_order_of_test_or_pool() -> None:
    task = get_task("emotion20")
    data = load_task_data(task, SHIPPED, "paper")
    turned = TaskData(data.test[::-1], data.pool[::-1], data.pool_source)
    assert sorted(example.prompt for example in build_examples(task, data, "paper", 42)) == sorted(
        example.prompt for example in build_examples(task, turned, "paper", 42))


def test_paper_never_shows_the_test_item_itself() -> None:
    task = get_task("ssa")
    data = load_task_data(task, SHIPPED, "paper")
    overlap = TaskData(data.test, (*data.test[:1], *data.pool[:4]), "made up")
    for seed in range(20):
        prompt = build_examples(task, overlap, "paper", seed, 1)[0].prompt
        assert prompt.count(f"Sentence: {data.test[0].sentence}\n") == 1


def test_where_there_is_no_dev_split_400_of_train_stand_in(shared_dir: Path) -> None:
    task = get_task("atsa")
    data = load_task_data(task, shared_dir / "sentibench", "paper")
    train = load_split(task, shared_dir / "sentibench", "train")
    assert len(data.pool) == 400 and {item.id for item in data.pool} <= {item.id for item in train}
    assert load_task_data(get_task("ssa"), shared_dir / "sentibench", "paper").pool_source == "val"


def test_a_sentence_is_data(tmp_path: Path) -> None:
    odd = "{Text} {Label} {{ %s <|im_end|> \\n {Sentence}"
    rows = [{"sentence": f"{odd} {n}", "label": "positive"} for n in range(5)]
    folder = tmp_path / "sc" / "sst2"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        (folder / f"{split}.json").write_text(json.dumps(rows), encoding="utf-8-sig")
    task = get_task("sst2")
    prompt = build_examples(task, load_task_data(task, tmp_path, "released"), "released", 42)[0].prompt
    assert prompt.count(odd) == 5


def test_too_few_demonstrations_are_bad_input() -> None:
    task = get_task("sst2")
    data = load_task_data(task, SHIPPED, "released")
    with pytest.raises(InputError, match="3 examples to draw demonstrations from"):
        build_examples(task, TaskData(data.test, data.pool[:3], "train"), "released", 42)


def test_the_hash_of_prompts_knows_where_one_ends() -> None:
    task = get_task("sst2")
    examples = build_examples(task, load_task_data(task, SHIPPED, "released"), "released", 42, 2)
    assert prompts_sha256(examples) != prompts_sha256(examples[::-1])
    assert prompts_sha256([]) == hashlib.sha256().hexdigest()
