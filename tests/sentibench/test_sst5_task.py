"""SST-5 as a task of SentiBench: beside the twelve, in no average, read as its files and the Hub have it."""

import json
from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score, f1_score

from distill.encoder import data as encoder_data
from distill.errors import InputError
from sentibench.cli import DEFAULT_DATA, main
from sentibench.data import benchmark_texts, data_id, load_split
from sentibench.protocols import build_examples, load_task_data
from sentibench.registry import all_tasks, get_task, select_tasks
from sentibench.scoring import read_answer, summary
from sentibench.summary import averages

SST5 = get_task("sst5")


def test_it_is_run_where_it_is_named_and_stands_in_no_average() -> None:
    assert "sst5" not in all_tasks() and SST5 not in select_tasks("all")
    assert select_tasks("all,sst5") == [*all_tasks().values(), SST5] == select_tasks(["sst5", "all"])
    assert all("sst5" not in (*group.tasks, *group.missing) and group.value in (None, 0.5)
               for group in averages({"sst2": 0.5, "sst5": 0.9}).values())


def test_the_real_data_are_those_of_the_encoder_students(shared_dir: Path) -> None:
    for split, count in (("train", 8544), ("val", 1101), ("test", 2210)):
        items = load_split(SST5, shared_dir / "sst5", split)
        assert len(items) == count and {str(item.gold) for item in items} == set(SST5.labels)
    assert [item.sentence for item in items] == [
        one.text for one in encoder_data.load_sentences(
            encoder_data.EncoderData(path=str(shared_dir / "sst5")))["test"]]
    assert data_id(shared_dir, ["sst5"]) == data_id(shared_dir / "sst5", ["sst5"]), "in a folder of its name, or alone"


def test_it_is_read_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def rows(wanted: encoder_data.HubDataset) -> list[dict[str, object]]:
        asked.append((wanted.dataset, wanted.split))
        return [{"text": f"a film {number}", "label": number % 5, "label_text": "x"} for number in range(10)]

    monkeypatch.setattr(encoder_data, "stream_hub", rows)
    task_data = load_task_data(SST5, "hub:SetFit/sst5", "paper")
    assert asked == [("SetFit/sst5", "test"), ("SetFit/sst5", "validation")]
    assert [item.gold for item in task_data.test[:5]] == list(SST5.labels)
    with pytest.raises(InputError, match="from which only sst5 can be read"):
        load_split(get_task("sst2"), "hub:SetFit/sst5", "test")


def test_what_is_missing_or_no_label_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"needs the file .*test\.txt.*hub:SetFit/sst5"):
        load_split(SST5, tmp_path, "test")
    (tmp_path / "test.txt").write_text("4 fine\nfine\n")
    with pytest.raises(InputError, match="line 2, begins with 'fine', which is no label"):
        load_split(SST5, tmp_path, "test")
    assert main(["prompts", "sst6"]) == 2
    assert "Did you mean 'sst5'" in capsys.readouterr().err


def test_prompts_show_and_answers_are_read_as_the_five_labels() -> None:
    (example,) = build_examples(SST5, load_task_data(SST5, DEFAULT_DATA, "released"), "released", 42, 1)
    assert "['very negative', 'negative', 'neutral', 'positive', 'very positive']" in example.prompt
    assert example.prompt.count("Label: ") == 4 and example.prompt.endswith("Label:")
    for raw, label in ((" very positive.", "very positive"), ("positive", "positive"), ("Label: Very Negative", "very "
                       "negative"), ("it is negative", None), ("great", None)):
        assert read_answer(SST5, raw).value == label


def test_accuracy_and_macro_f1_are_those_of_scikit_learn() -> None:
    items = load_split(SST5, DEFAULT_DATA, "test")
    said = ["negative", "negative", "neutral", "very positive", "very positive"] * 2
    found = summary(SST5, items, [read_answer(SST5, raw) for raw in said], 0)
    gold = [str(item.gold) for item in items]
    assert found["accuracy"] == accuracy_score(gold, said)
    assert found["value"] == pytest.approx(f1_score(gold, said, average="macro", labels=SST5.labels, zero_division=0))


def test_a_predictions_file_is_scored_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gold = [str(item.gold) for item in load_split(SST5, DEFAULT_DATA, "test")]
    lines = [json.dumps({"index": place, "prediction": label}) for place, label in enumerate([*gold[:-1], "?"])]
    (tmp_path / "said.jsonl").write_text("\n".join(lines) + "\n")
    assert main(["score", "sst5", "--predictions", str(tmp_path / "said.jsonl")]) == 0
    assert "accuracy 90.00 %, 10 examples, 1 invalid" in capsys.readouterr().out


def test_its_texts_leave_the_corpus_where_its_data_are() -> None:
    found = list(benchmark_texts(DEFAULT_DATA, ["sst5"]))
    assert {text.split for text in found} == {"train", "val", "test"} and len(found) == 38
