"""What an encoder student is given: texts with classes, configs, prompts; and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from distill.config.load import load_config
from distill.config.sections.encoder import EncoderConfig, EncoderData, TripletLoss
from distill.encoder.data import load_sentences
from distill.errors import InputError
from flows.encoder_run import find_encoder_config
from tests.support.encoder import config_of

NAMES = ["very negative", "negative", "neutral", "positive", "very positive"]


def test_sst5_is_read_whole(shared_dir: Path) -> None:
    found = load_sentences(EncoderData(path=str(shared_dir / "sst5")))
    assert {split: len(rows) for split, rows in found.items()} == {"train": 8544, "dev": 1101, "test": 2210}
    everything = [row.label for rows in found.values() for row in rows]
    # The paper's Table 1 prints 12%, 19%, 25%, 23%, 21%, which no split of these files has.
    assert [round(100 * everything.count(label) / len(everything)) for label in range(5)] == [13, 26, 19, 26, 16]


@pytest.mark.parametrize(("line", "message"), [
    ("7 a film", "line 3, begins with '7', which is no label: it must be a number from 0 to 4"),
    ("good a film", "line 3, begins with 'good'"), ("-1 a film", "begins with '-1'"),
    ("² a film", "begins with '²'"), ("00 a film", "begins with '00'"), ("1" * 5000 + " a film", "begins with '1111"),
    ("", "line 3, is empty"),
    ("2", "line 3, has the label 2, but no text")])
def test_a_line_that_is_no_label_and_text_is_named(encoders: Path, tmp_path: Path, line: str, message: str) -> None:
    shutil.copytree(encoders / "data", tmp_path / "data")
    lines = (tmp_path / "data" / "dev.txt").read_text().split("\n")
    (tmp_path / "data" / "dev.txt").write_text("\n".join([*lines[:2], line, *lines[2:]]))
    with pytest.raises(InputError, match=message):
        load_sentences(EncoderData(path=str(tmp_path / "data")))


def test_a_class_without_examples_is_named(encoders: Path, tmp_path: Path) -> None:
    shutil.copytree(encoders / "data", tmp_path / "data")
    lines = (tmp_path / "data" / "train.txt").read_text().splitlines()
    (tmp_path / "data" / "train.txt").write_text("\n".join(line for line in lines if line[0] not in "13"))
    with pytest.raises(InputError, match=r"no example of the class 1 \(negative\), 3 \(positive\)"):
        load_sentences(EncoderData(path=str(tmp_path / "data")))
    (tmp_path / "data" / "test.txt").write_text("\n")
    with pytest.raises(InputError, match=r"test\.txt is empty"):
        load_sentences(EncoderData(path=str(tmp_path / "data"), names=NAMES))


@pytest.mark.parametrize(("name", "expected"), [
    ("baseline", ("never", None, 2e-5, None, 40, False)), ("after-n", ("after_n", 7, 8e-5, 8e-6, 30, False)),
    ("layerwise", ("layerwise", None, 8e-5, 8e-5, 40, False)),
    ("after-n-prompt", ("after_n", 5, 5e-5, 5e-6, 25, True)),
    ("after-n-prompt-triplet", ("after_n", 7, 5e-5, 5e-6, 23, True)),
    ("after-n-triplet", ("after_n", 7, 5e-5, 5e-6, 23, False))])
def test_what_ships_has_the_papers_values(name: str, expected: tuple[Any, ...]) -> None:
    config = load_config(find_encoder_config(name), (), EncoderConfig)
    strategy, epoch, head, backbone, epochs, prompt = expected
    assert (config.unfreeze.strategy, config.rates.head, config.epochs, config.prompt) == (
        strategy, head, epochs, prompt)
    assert epoch in (None, config.unfreeze.epoch) and backbone in (None, config.rates.backbone)
    assert config.backbone.name == "cardiffnlp/twitter-roberta-base-sentiment"
    assert config.max_length == (512 if prompt else 256) and config.head.dropout == 0.1
    triplet = TripletLoss(weight=0.2, margin=1.0, distance="squared") if "triplet" in name else None
    assert config.triplet == triplet


@pytest.mark.parametrize(("more", "message"), [
    ({"unfreeze": {"strategy": "never"}, "triplet": {}}, "changes the backbone's embeddings only"),
    ({"unfreeze": {"strategy": "after_n", "epoch": 5}}, "would never be trained"),
    ({"seeds": [1, 2, 1]}, "seeds holds 1 more than once"), ({"seeds": [-1]}, "greater than or equal to 0"),
    ({"prompt": True, "data": {"path": "x", "names": ["bad", "good"]}}, "names the five classes of SST-5"),
    ({"data": {"path": "x", "names": ["good", "good"]}}, "holds a name twice"),
    ({"triplet": {"wieght": 1}}, "did you mean 'weight'")])
def test_a_config_that_contradicts_itself_is_refused(encoders: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config_of(encoders, **more)


def test_the_task_prompt_is_that_of_section_3_word_for_word(shared_dir: Path) -> None:
    from distill.encoder.model import task_prompt
    from distill.prompting.template import fill

    config = load_config(find_encoder_config("after-n-prompt"), (), EncoderConfig)
    said = fill(task_prompt(config), Text="a {Text} of its own").removesuffix("a {Text} of its own").strip()
    paper = next((shared_dir / "seeds").glob("000_*")).read_text(encoding="utf-8")
    assert said.startswith("Movie review sentiment") and said in paper


def test_special_tokens_in_a_text_are_plain_characters(encoders: Path) -> None:
    from distill.encoder.batches import encode
    from distill.models import load_tokenizer

    (ids,) = encode(load_tokenizer(encoders / "tiny"), ["film [SEP] [CLS] plot"], "{Text}", 32).ids
    assert ids[0] == 2 and ids[-1] == 3 and not {2, 3} & set(ids[1:-1])
