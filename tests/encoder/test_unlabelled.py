"""Encoder students without gold labels: of texts alone and a teacher, and of what a run's teacher has said already."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from distill.config.load import validate
from distill.config.sections.encoder import EncoderConfig, RunLabels
from distill.config.sections.teacher import Logprobs
from distill.encoder import run_labels, stage, targets
from distill.encoder.data import Sentence
from distill.encoder.teacher import read_labels
from distill.encoder.texts import read_texts
from distill.errors import InputError
from distill.generation.run import generate
from distill.models import Weights
from distill.run.folder import claim
from distill.run.records import Text, write_records
from distill.run.storage import read_json
from distill.runtime.parallel import DeviceSlot
from flows.cli.encoder import scores_table
from flows.encoder_run import train_run
from flows.report.encoder.build import build_encoder_report
from tests.support.encoder import small_data, tiny_encoder
from tests.support.engine import asked_here
from tests.support.generation import TEACHER, FakeEngine, prompts_of, written

NAMES = ["bad", "good"]
WORDS: list[str | list[str]] = [["negative", "NEG"], ["positive", "POS"]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTIDISTILL_CACHE", str(tmp_path / "cache"))


def config_of(place: Path, **more: Any) -> EncoderConfig:
    return validate({"name": "x", "backbone": {"name": str(place / "tiny")}, "labels": "teacher", "epochs": 1,
                     "batch_size": 8, "dtype": "float32", **more}, "a test", EncoderConfig)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask and train in this process."""
    from distill.encoder.training import refuse_backbone, train

    asked_here(monkeypatch)
    monkeypatch.setattr(DeviceSlot, "call", lambda _self, _target, spec, _log: train(json.loads(json.dumps(spec))))
    monkeypatch.setattr(stage, "call_in_process", lambda _target, spec, _log: refuse_backbone(spec))


def lines_of(place: Path) -> list[str]:
    small_data(place / "data", train=40, others=10)
    return [line.partition(" ")[2] for line in (place / "data/train.txt").read_text().splitlines()]


@pytest.mark.usefixtures("here")
def test_texts_and_a_teacher_make_a_classifier_and_gold_labels_decide_nothing(tiny_model: Path, tmp_path: Path) -> None:
    tiny_encoder(tmp_path / "tiny")
    lines = lines_of(tmp_path)
    (tmp_path / "texts/more").mkdir(parents=True)
    (tmp_path / "texts/a.txt").write_text("\n".join([*lines[:30], "", lines[0]]) + "\n")
    (tmp_path / "texts/more/b.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines[30:]))
    teacher = {"model": {"name": str(tiny_model)}, "verbalizer": [["terrible", "bad"], ["good", "great"]]}
    data = {"texts": str(tmp_path / "texts"), "names": NAMES, "held_out": 0.2}
    (done,) = train_run(alone := config_of(tmp_path, data=data, teacher=teacher), tmp_path / "run", "stop")
    n = len(set(lines))
    counts = done.row_counts[0].check()
    assert (counts.n_in, dict(counts.dropped)) == (n, {"held_out_dev": round(n / 5), "held_out_test": round(n / 5)})
    rows = json.loads((tmp_path / "run/rows.json").read_text())
    said = read_labels(tmp_path / "run/labels")
    for split in ("train", "dev", "test"):
        assert all(label == max((0, 1), key=said[key].__getitem__) for key, _, label in rows[split])
    texts = [text for split in ("train", "dev", "test") for _, text, _ in rows[split]]
    assert len(texts) == len(set(texts)) == n
    assert "are the teacher's" in str(scores_table(alone, [done]).title)
    page = build_encoder_report([tmp_path / "run"], tmp_path / "report.html").read_text()
    assert "The labels of dev and test are the teacher's" in page
    (tmp_path / "gold.txt").write_text("".join(f"{place % 2} {line} !\n" for place, line in enumerate(lines[:8])))
    tested = config_of(tmp_path, data={**data, "test": str(tmp_path / "gold.txt")}, teacher=teacher)
    (done,) = stage.train_encoder(tested, tmp_path / "tested")
    rows = json.loads((tmp_path / "tested/rows.json").read_text())
    assert [label for _, _, label in rows["test"]] == [0, 1] * 4
    assert not set(lines[:8]) & {text for split in ("train", "dev") for _, text, _ in rows[split]}
    assert read_json(tmp_path / "tested/models/seed42/result.json")["gold"] == {"dev": False, "test": True}
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    with pytest.raises(InputError, match="Of 2 texts with a label, 2 are held out, which leaves 0"):
        stage.train_encoder(config_of(tmp_path, data={**data, "texts": str(tmp_path / "few.txt")}, teacher=teacher),
                            tmp_path / "few")


def text_of(number: int) -> str:
    return f"a text of {number}" + " film" * (number % 7)


def source(folder: Path, fake: FakeEngine) -> Path:
    """A run whose teacher has said of 40 texts, asked twice each in two formats, what it holds of labels."""
    claim(folder)
    labels = [["negative", "positive"], ["POS", "NEG"], ["good", "bad"], ["negative", "positive"]]
    asked = [dataclasses.replace(prompt, text_id=f"t{number % 40}", kind="emotion/lw" if number >= 76 else
                                 f"sentiment/{'basic' if number % 2 else 'lw'}", labels=labels[number // 20])
             for number, prompt in enumerate(prompts_of(80, "icldist"))]
    write_records(folder / "corpus/texts.parquet", Text, [Text(f"t{n}", f" {text_of(n)}", "film", "test")
                                                          for n in range(40)])
    generate("icldist", written(folder, asked, "icldist"), TEACHER.model_copy(update={
        "logprobs": Logprobs(labels=True), "max_unusable": 1.0}), Weights(Path("m"), "m"), folder, 42)
    return folder


def test_what_a_run_has_said_is_learned_word_by_word_and_every_prompt_is_accounted_for(
    tmp_path: Path, fake: FakeEngine
) -> None:
    run = source(tmp_path / "source", fake)
    config = RunLabels(run=str(run), verbalizer=WORDS)
    texts, done = run_labels.labels_of_run(config, NAMES, {"train": [], "dev": [], "test": [
        Sentence("x", text_of(3), 1)]}, tmp_path / "run")
    counts = [account.check() for account in done.row_counts]
    # Of 76 prompts on sentiment, 13 could not be asked, 14 has no answer, and 20 are of labels that mean no class.
    assert [(one.stage, one.n_in, one.n_out, dict(one.dropped)) for one in counts] == [
        ("encoder/distributions", 76, 54, {"no_distribution": 2, "other_labels": 20}),
        ("encoder/texts", 38, 37, {"in_dev_or_test": 1}), ("encoder/labels", 37, 37, {})]
    said, by_text = read_labels(done.folder), {text.text: text.id for text in texts}
    first, second = 1 / (1 + 2.718281828 ** (-1 / 8)), 1 / (1 + 2.718281828 ** (1 / 8))
    assert said[by_text[text_of(5)]] == pytest.approx([first, second], abs=1e-5)  # of labels 'good' and 'bad' not
    assert said[by_text[text_of(25)]] == pytest.approx([0.5, 0.5], abs=1e-5)  # POS first, negative first
    flat = run_labels.labels_of_run(config.model_copy(update={"calibrate": True}), NAMES, {
        "train": [], "dev": [], "test": []}, tmp_path / "calibrated")[1]
    assert all(shares == pytest.approx([0.5, 0.5]) for shares in read_labels(flat.folder).values())
    assert run_labels.labels_of_run(config, NAMES, {"train": [], "dev": [], "test": [Sentence("x", text_of(3), 1)]},
                                    tmp_path / "run")[1].reused


@pytest.mark.parametrize(("given", "said"), [
    ({"task": "irony"}, "no prompts of the task 'irony'.*emotion, sentiment"),
    ({"verbalizer": None}, "from_run.verbalizer which labels mean each class"),
    ({"verbalizer": ["negative", "fine"]}, "negative, positive"),
    ({"run": "nowhere"}, "nowhere is no run"),
])
def test_a_run_that_says_nothing_of_the_classes_is_refused(
    tmp_path: Path, fake: FakeEngine, given: dict[str, Any], said: str
) -> None:
    run = source(tmp_path / "source", fake)
    names = ["dull", "bright"] if given.get("verbalizer", "") is None else NAMES
    config = RunLabels.model_validate({"run": str(run), "verbalizer": WORDS, **given})
    with pytest.raises(InputError, match=said):
        run_labels.labels_of_run(config, names, {"train": [], "dev": [], "test": []}, tmp_path / "run")


def test_a_run_without_distributions_says_how_it_gets_them(tmp_path: Path, fake: FakeEngine) -> None:
    run = source(tmp_path / "source", fake)
    for path in (run / "icldist/label_logprobs").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"distill generate .*source --logprobs"):
        run_labels.labels_of_run(RunLabels(run=str(run)), NAMES, {"train": [], "dev": [], "test": []}, tmp_path / "run")


@pytest.mark.usefixtures("here")
def test_a_classifier_is_trained_on_what_a_run_has_said_alone_or_beside_gold_labels(
    tmp_path: Path, fake: FakeEngine
) -> None:
    run = source(tmp_path / "source", fake)
    tiny_encoder(tmp_path / "tiny")
    from_run = {"run": str(run), "verbalizer": WORDS}
    (alone,) = train_run(config_of(tmp_path, data={"names": NAMES}, from_run=from_run), tmp_path / "alone", "stop")
    assert (alone.row_counts[0].n_in, alone.row_counts[0].n_out) == (38, 30)
    assert "The teacher of" in build_encoder_report([tmp_path / "alone"], tmp_path / "report.html").read_text()
    lines_of(tmp_path)
    for split in ("train", "dev", "test"):
        path = tmp_path / "data" / f"{split}.txt"
        path.write_text("".join(f"{int(line[0]) % 2}{line[1:]}\n" for line in path.read_text().splitlines()))
    data = {"path": str(tmp_path / "data"), "names": NAMES}
    for labels, expected in (("both", 40 + 38), ("teacher", 38)):
        (done,) = stage.train_encoder(config_of(tmp_path, data=data, labels=labels, from_run=from_run),
                                      tmp_path / labels)
        counts = done.row_counts[0].check()
        assert (counts.n_in, counts.n_out) == (expected, expected)


@pytest.mark.parametrize(("more", "message"), [
    ({"data": {"names": NAMES}}, "no teacher is named"),
    ({"data": {"names": NAMES}, "teacher": {"model": {"name": "m"}}}, "data.path is not set"),
    ({"data": {"texts": "x"}, "labels": "both", "teacher": {"model": {"name": "m"}}}, "data.path is not set"),
    ({"data": {"path": "x", "test": "y"}, "teacher": {"model": {"name": "m"}}}, "test names a file beside path"),
    ({"data": {"texts": "x"}, "from_run": {"run": "r"}}, "data.texts is set beside from_run"),
    ({"data": {}, "from_run": {"run": "r"}, "teacher": {"model": {"name": "m"}}}, "teacher is set beside from_run"),
    ({"data": {"path": "x"}, "labels": "gold", "from_run": {"run": "r"}}, "nothing would be done with them"),
    ({"data": {"names": NAMES}, "from_run": {"run": "r", "verbalizer": [["a", "b"], ["b"]]}}, "no word twice"),
    ({"data": {"names": NAMES}, "from_run": {"run": "r", "verbalizer": [["a"], []]}}, "for each class"),
    ({"data": {"texts": "x"}, "teacher": {"model": {"name": "m"}, "format": "mi"}}, "by demonstrations alone"),
])
def test_a_config_that_names_no_labels_or_two_kinds_is_refused(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        config_of(tmp_path, **more)


def test_texts_are_read_from_files_of_all_forms_and_what_is_none_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.csv").write_text('review,stars\n"two\nlines",3\nplain,2\n')
    (folder / ".hidden.txt").write_text("no\n")
    (folder / "b.jsonl").write_text('{"review": "third"}\nnot json\n{"review": 7}\n')
    (folder / "c.txt").write_text("fourth\n\n")
    texts, unread = read_texts(folder, "review")
    assert texts == ["two lines", "plain", "third", "fourth"] and sum(unread.values()) == 2
    used, account = targets.usable_texts(texts, {"train": [], "dev": [], "test": []}, unread)
    assert [one.text for one in used] == texts and account.check().n_in == 6
    with pytest.raises(InputError, match=r"data\.field"):
        read_texts(folder / "a.csv", "text")
    (folder / "d.pdf").write_text("x")
    with pytest.raises(InputError, match=r"d\.pdf.*must end in"):
        read_texts(folder, "review")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no files"):
        read_texts(tmp_path / "empty", "text")



def test_near_copies_of_what_is_held_out_are_not_trained_on(tmp_path: Path) -> None:
    things = ("soup", "room", "boat trip", "concert", "haircut", "phone", "novel", "garden", "train", "lecture")
    first = [f"Day {number * 37}: the {things[number % 10]} by the {things[number // 6]} cost {number * 91} and came "
             f"{'far too late ' * (number % 4)}for the {things[-1 - number % 7]}, they said." for number in range(60)]
    rows = [Sentence(str(place), text, place % 2) for place, text in enumerate(
        [*first, *(f"{text} Really." for text in first)])]
    config = config_of(tmp_path, data={"texts": "a.txt"}, teacher={"model": {"name": "m"}})
    splits, shares = targets.hold_out(config, rows, [[0.5, 0.5]] * len(rows), [])
    held = {one.text.removesuffix(" Really.") for split in ("dev", "test") for one in splits[split]}
    assert held and splits["train"] and len(shares) == len(splits["train"])
    assert not held & {one.text.removesuffix(" Really.") for one in splits["train"]}
