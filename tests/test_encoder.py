"""Encoder students: what is trained when, what decides the best epoch, what is kept, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from distill.abreast import Seat
from distill.config.load import load_config, validate
from distill.config.sections.encoder import EncoderConfig, EncoderData, TripletLoss, Unfreezing
from distill.encoder import stage
from distill.encoder.data import Sentence, load_sentences
from distill.errors import InputError
from flows.encoder_run import find_encoder_config
from tests.encoder_helpers import small_data, tiny_encoder

NAMES = ["very negative", "negative", "neutral", "positive", "very positive"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny encoder and a small data set."""
    folder = tmp_path_factory.mktemp("encoder")
    tiny_encoder(folder / "tiny")
    small_data(folder / "data")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTIDISTILL_CACHE", str(tmp_path / "cache"))


def config_of(place: Path, **more: Any) -> EncoderConfig:
    return validate({"name": "x", "data": {"path": str(place / "data")}, "backbone": {"name": str(place / "tiny")},
                     "epochs": 5, "batch_size": 8, "rates": {"head": 1e-2, "backbone": 1e-2}, "dtype": "float32",
                     "unfreeze": {"strategy": "after_n", "epoch": 2}, **more}, "a test", EncoderConfig)


def trained(place: Path, out: Path, seed: int = 1, **more: Any) -> dict[str, Any]:
    from distill.encoder.training import train

    return train({"config": config_of(place, **more).model_dump(mode="json"), "backbone": str(place / "tiny"),
                  "out": str(out), "seed": seed})


# ---------------------------------------------------------------- data


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
def test_a_line_that_is_no_label_and_text_is_named(place: Path, tmp_path: Path, line: str, message: str) -> None:
    shutil.copytree(place / "data", tmp_path / "data")
    lines = (tmp_path / "data" / "dev.txt").read_text().split("\n")
    (tmp_path / "data" / "dev.txt").write_text("\n".join([*lines[:2], line, *lines[2:]]))
    with pytest.raises(InputError, match=message):
        load_sentences(EncoderData(path=str(tmp_path / "data")))


def test_a_class_without_examples_is_named(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "data", tmp_path / "data")
    lines = (tmp_path / "data" / "train.txt").read_text().splitlines()
    (tmp_path / "data" / "train.txt").write_text("\n".join(line for line in lines if line[0] not in "13"))
    with pytest.raises(InputError, match=r"no example of the class 1 \(negative\), 3 \(positive\)"):
        load_sentences(EncoderData(path=str(tmp_path / "data")))
    (tmp_path / "data" / "test.txt").write_text("\n")
    with pytest.raises(InputError, match=r"test\.txt is empty"):
        load_sentences(EncoderData(path=str(tmp_path / "data"), names=NAMES))


# ---------------------------------------------------------------- configs


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
def test_a_config_that_contradicts_itself_is_refused(place: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config_of(place, **more)


def test_the_task_prompt_is_that_of_section_3_word_for_word(shared_dir: Path) -> None:
    from distill.encoder.model import task_prompt
    from distill.prompting.template import fill

    config = load_config(find_encoder_config("after-n-prompt"), (), EncoderConfig)
    said = fill(task_prompt(config), Text="a {Text} of its own").removesuffix("a {Text} of its own").strip()
    paper = next((shared_dir / "seeds").glob("000_*")).read_text(encoding="utf-8")
    assert said.startswith("Movie review sentiment") and said in paper


# ---------------------------------------------------------------- unfreezing and triplets


@given(st.sampled_from(["after_n", "layerwise"]), st.integers(0, 5), st.integers(1, 4), st.integers(1, 12))
def test_nothing_is_trained_before_its_epoch_and_what_is_stays_so(
        strategy: Any, epoch: int, interval: int, layers: int) -> None:
    from distill.encoder.unfreezing import trained_layers

    config = Unfreezing(strategy=strategy, epoch=epoch, interval=interval)
    counts = [trained_layers(config, layers, number) for number in range(epoch + interval * (layers + 2))]
    assert counts[:epoch] == [0] * epoch and counts[epoch] > 0 and counts[-1] == layers + 1
    assert counts == sorted(counts)
    steps = {after - before for before, after in zip(counts[epoch:], counts[epoch + 1:], strict=False)}
    assert steps <= {0} if strategy == "after_n" else steps <= {0, 1}


def test_layers_are_unfrozen_from_the_last_and_the_embeddings_at_the_end(place: Path) -> None:
    from distill.encoder.model import load_backbone
    from distill.encoder.unfreezing import unfreeze

    backbone = load_backbone(place / "tiny")
    for count, expected in ((0, set()), (1, {"encoder.layer.1"}), (2, {"encoder.layer.0", "encoder.layer.1"})):
        unfreeze(backbone, count)
        assert {".".join(name.split(".")[:3]) for name, weight in backbone.named_parameters()
                if weight.requires_grad} == expected
    unfreeze(backbone, 3)
    assert all(weight.requires_grad for weight in backbone.parameters())


@given(st.lists(st.integers(0, 4), min_size=5, max_size=40), st.integers(0, 5), st.integers(0, 3))
def test_a_triplet_has_a_positive_of_the_class_and_a_negative_next_to_it(
        labels: list[int], seed: int, epoch: int) -> None:
    from distill.encoder.triplets import Triplets

    labels = [*range(5), *labels]
    sentences = [Sentence(f"{place}", "text", label) for place, label in enumerate(labels)]
    for place, label in enumerate(labels):
        positive, negative = Triplets(sentences, seed).draw(place, epoch)
        assert labels[positive] == label and abs(labels[negative] - label) == 1
        assert positive != place or labels.count(label) == 1
        assert (positive, negative) == Triplets(sentences, seed).draw(place, epoch)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 5))
def test_triplets_of_a_batch_are_in_it_and_none_is_made_up(labels: list[int], seed: int) -> None:
    from distill.encoder.triplets import Triplets

    everything = [*range(5), *labels]
    sentences = [Sentence(f"{place}", "text", label) for place, label in enumerate(everything)]
    batch = list(range(5, len(everything)))
    found = Triplets(sentences, seed).draw_in(batch, 0)
    possible = [number for number, label in enumerate(labels)
                if labels.count(label) > 1 and {label - 1, label + 1} & set(labels)]
    assert [anchor for anchor, _, _ in found] == possible
    for anchor, positive, negative in found:
        assert labels[positive] == labels[anchor] and positive != anchor and abs(labels[negative] - labels[anchor]) == 1


def test_the_triplet_loss_is_equation_1() -> None:
    import torch

    from distill.encoder.triplets import triplet_loss

    anchor, positive, negative = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])
    assert triplet_loss(TripletLoss(distance="squared"), anchor, positive, negative).item() == 25 - 4 + 1
    plain = triplet_loss(TripletLoss(distance="euclidean"), anchor, positive, negative)
    assert plain.item() == pytest.approx(5 - 2 + 1)
    assert triplet_loss(TripletLoss(margin=1), anchor, anchor, positive).item() == 0


# ---------------------------------------------------------------- training


def test_the_head_alone_is_trained_first_and_then_it_learns(place: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    result = trained(place, tmp_path / "out", seed=2, triplet={}, epochs=7)
    assert [epoch["trained_layers"] for epoch in result["curve"]] == [0, 0, *[3] * 5]
    assert result["test"]["accuracy"] > 0.6 > result["curve"][1]["dev"]["accuracy"]
    best = max(result["curve"], key=lambda epoch: sum(epoch["dev"].values()))
    assert (result["best_epoch"], result["dev"]) == (best["epoch"], best["dev"])
    assert sum(map(sum, result["confusion"])) == result["counts"]["test"] == 40
    frozen = trained(place, tmp_path / "frozen", unfreeze={"strategy": "never"}, epochs=7)
    assert frozen["test"]["accuracy"] < result["test"]["accuracy"]
    before, after = (load_file(folder / "model.safetensors") for folder in (place / "tiny", tmp_path / "frozen"))
    assert all((after[name] == weight).all() for name, weight in before.items())


def test_the_test_split_decides_nothing(place: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    trained(place, tmp_path / "a")
    (tmp_path / "other").mkdir()
    shutil.copytree(place / "data", tmp_path / "other" / "data")
    (tmp_path / "other" / "data" / "test.txt").write_text("".join(
        f"{number % 5} the film\n" for number in range(30)))
    shutil.copytree(place / "tiny", tmp_path / "other" / "tiny")
    trained(tmp_path / "other", tmp_path / "b")
    for name in ("model.safetensors", "head.safetensors"):
        ours, theirs = (load_file(tmp_path / folder / name) for folder in "ab")
        assert all((ours[key] == theirs[key]).all() for key in ours)


def test_a_frozen_backbone_is_encoded_once_and_gives_the_same_as_anew(
        place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.encoder import embeddings

    first = trained(place, tmp_path / "a", unfreeze={"strategy": "never"})

    def never(*_: Any) -> Any:
        raise AssertionError("the backbone was asked again")

    compute, cached = embeddings.embed, embeddings.embed
    monkeypatch.setattr(embeddings, "embed", lambda model, texts, bfloat16: compute(model, texts, bfloat16)
                        if len(texts.ids) == 40 else never())  # test is classified by the saved model
    second = trained(place, tmp_path / "b", unfreeze={"strategy": "never"})
    monkeypatch.setattr(embeddings, "embed", cached)
    assert first["curve"] == [{**mine, "seconds": yours["seconds"]} for mine, yours in zip(
        second["curve"], first["curve"], strict=True)]


def test_training_stops_when_patience_is_at_its_end_and_not_before_all_is_unfrozen(place: Path, tmp_path: Path) -> None:
    result = trained(place, tmp_path / "out", epochs=30, patience=2, rates={"head": 1e-9, "backbone": 1e-9},
                     unfreeze={"strategy": "layerwise", "epoch": 2})
    assert [epoch["trained_layers"] for epoch in result["curve"]] == [0, 0, 1, 2, 3, 3, 3]
    assert result["best_epoch"] == 0


def test_what_is_saved_says_the_same_when_it_is_loaded(place: Path, tmp_path: Path) -> None:
    from distill.encoder.predict import evaluate, predict

    result = trained(place, tmp_path / "out", triplet={"draw": "batch"})
    found = evaluate({"model": str(tmp_path / "out"), "data": str(place / "data"), "split": "test"})
    assert found["scores"] == result["test"] and found["confusion"] == result["confusion"]
    lines = ["a great film", "great [SEP] film", "an awful plot " * 20]
    said = predict({"model": str(tmp_path / "out"), "texts": lines})
    assert said["cut"] == 1 and set(said["labels"]) <= set(NAMES)
    assert all(sum(shares) == pytest.approx(1, abs=1e-3) for shares in said["probabilities"])


def test_the_exported_model_says_the_same(place: Path, tmp_path: Path) -> None:
    from distill.encoder.onnx import export
    from distill.encoder.predict import evaluate, predict

    trained(place, tmp_path / "out", epochs=3)
    lines = ["a great film", "the plot was bad and " * 6, "an awful actor", "music"]
    told = export({"model": str(tmp_path / "out"), "out": str(tmp_path / "onnx"), "texts": lines})
    assert told["texts"] == 4 and told["difference"] < 1e-4
    asked = [{"model": str(tmp_path / folder), "texts": lines} for folder in ("out", "onnx")]
    ours, theirs = (predict(one) for one in asked)
    assert ours["labels"] == theirs["labels"] and ours["cut"] == theirs["cut"]
    for one, other in zip(ours["probabilities"], theirs["probabilities"], strict=True):
        assert one == pytest.approx(other, abs=2e-4)
    scored = [evaluate({"model": str(tmp_path / folder), "data": str(place / "data"), "split": "test"})
              for folder in ("out", "onnx")]
    assert scored[0] == scored[1]
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"cannot be loaded.*Export it again"):
        predict(asked[1])


def test_special_tokens_in_a_text_are_plain_characters(place: Path) -> None:
    from distill.encoder.batches import encode
    from distill.models import load_tokenizer

    (ids,) = encode(load_tokenizer(place / "tiny"), ["film [SEP] [CLS] plot"], "{Text}", 32).ids
    assert ids[0] == 2 and ids[-1] == 3 and not {2, 3} & set(ids[1:-1])


def test_a_finished_seed_is_not_trained_again_and_other_settings_are_refused(
        place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.encoder.training import train

    monkeypatch.setattr(Seat, "call", lambda _self, _target, spec, _log: train(json.loads(json.dumps(spec))))
    (one,) = stage.train_encoder(config_of(place, epochs=3), tmp_path / "run")
    assert not one.reused and one.ledgers[0].n_in == 200
    again, other = stage.train_encoder(config_of(place, epochs=3, seeds=[42, 7]), tmp_path / "run")
    assert again.reused and not other.reused
    assert set(stage.spread([again, other])) == {"accuracy", "macro_f1"}
    with pytest.raises(InputError, match=r"batch_size: 8 then, 4 now.*--discard"):
        stage.train_encoder(config_of(place, epochs=3, batch_size=4), tmp_path / "run")


def test_a_model_that_is_no_encoder_is_refused(tiny_model: Path, place: Path, tmp_path: Path) -> None:
    from distill.encoder.model import load_backbone, load_classifier

    with pytest.raises(InputError, match="is not an encoder: its tokens see only those before them"):
        load_backbone(tiny_model)
    with pytest.raises(InputError, match="cannot be loaded"):
        load_backbone(tmp_path)
    with pytest.raises(InputError, match="holds no encoder classifier"):
        load_classifier(place / "tiny")


def test_backbones_with_pickled_weights_or_other_layers_are_taken(place: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AlbertConfig, AlbertModel

    from distill.encoder.model import load_backbone
    from distill.encoder.training import train
    from distill.models import model_fingerprint

    shutil.copytree(place / "tiny", tmp_path / "pickled")
    torch.save(load_backbone(place / "tiny").state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"needs config\.json and"):
        model_fingerprint(tmp_path / "pickled")
    assert model_fingerprint(tmp_path / "pickled", pickled=True) != model_fingerprint(place / "tiny")
    shutil.copytree(place / "tiny", tmp_path / "shared-layers")
    AlbertModel(AlbertConfig(
        vocab_size=64, embedding_size=16, hidden_size=32, num_hidden_layers=2, intermediate_size=64,
        num_attention_heads=2, max_position_embeddings=32)).save_pretrained(tmp_path / "shared-layers")
    for name in ("pickled", "shared-layers"):
        config = config_of(place, backbone={"name": str(tmp_path / name)}, epochs=3).model_dump(mode="json")
        spec = {"config": config, "backbone": str(tmp_path / name), "out": str(tmp_path / f"{name}-out"), "seed": 1}
        assert [epoch["trained_layers"] for epoch in train(spec)["curve"]] == [0, 0, 3]
    config["unfreeze"]["strategy"] = "layerwise"
    with pytest.raises(InputError, match=r"Set unfreeze\.strategy to after_n"):
        train({**spec, "config": config})


def test_texts_longer_than_the_backbone_takes_are_cut_and_counted_whatever_the_tokenizer_says(
        place: Path, tmp_path: Path) -> None:
    import torch
    from transformers import RobertaConfig, RobertaModel

    from distill.encoder.model import load_backbone, most_tokens
    from distill.models import load_tokenizer

    shutil.copytree(place / "tiny", tmp_path / "roberta")
    torch.manual_seed(0)
    RobertaModel(RobertaConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0, intermediate_size=64,
        max_position_embeddings=19)).save_pretrained(tmp_path / "roberta")
    settings = json.loads((tmp_path / "roberta/tokenizer_config.json").read_text())
    (tmp_path / "roberta/tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 10**30}))
    backbone = load_backbone(tmp_path / "roberta")
    assert most_tokens(backbone, load_tokenizer(tmp_path / "roberta")) == 18
    shutil.copytree(place / "data", tmp_path / "data")
    with (tmp_path / "data/train.txt").open("a") as train:
        train.write("4 " + "great film " * 30 + "\n")
    shutil.copytree(tmp_path / "roberta", tmp_path / "tiny")
    result = trained(tmp_path, tmp_path / "out", epochs=3)
    assert result["cut"]["train"] == 1
    assert json.loads((tmp_path / "out/classifier.json").read_text())["max_length"] == 18


def test_a_prompt_that_leaves_no_room_for_texts_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The task prompt alone takes \d+ of the 16 tokens"):
        trained(place, tmp_path / "out", prompt=True, max_length=16)


def test_models_of_different_settings_are_never_averaged_and_kept_ones_shown_as_they_are(
        place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.config.load import save_config
    from distill.encoder.training import train
    from sentibench.report.encoder.build import build_encoder_report

    monkeypatch.setattr(Seat, "call", lambda _self, _target, spec, _log: train(json.loads(json.dumps(spec))))
    frozen = config_of(place, epochs=2, unfreeze={"strategy": "never"}, seeds=[1, 2], at_once=1)
    other = config_of(place, epochs=3, seeds=[1, 2], at_once=1)
    run = tmp_path / "run"
    stage.train_encoder(frozen, run)
    assert all(one.reused for one in stage.train_encoder(other, run, "keep"))
    save_config(other, run / "config.yaml")
    page = build_encoder_report([run], tmp_path / "report.html").read_text()
    assert "<td>never</td>" in page and "after_n" not in page
    stage.train_encoder(other.model_copy(update={"seeds": [2]}), run, "discard")
    with pytest.raises(InputError, match=r"seed2 was trained with other settings than .*seed1.*must not be averaged"):
        build_encoder_report([run], tmp_path / "report.html")


def test_seeds_are_trained_on_the_rows_the_run_began_with(
        place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.encoder.training import train

    shutil.copytree(place / "data", tmp_path / "data")

    def call(_seat: Seat, _target: str, spec: dict[str, Any], _log: Path) -> dict[str, Any]:
        (tmp_path / "data/train.txt").write_text("0 film\n1 film\n2 film\n3 film\n4 film\n")  # edited meanwhile
        return train(json.loads(json.dumps(spec)))

    monkeypatch.setattr(Seat, "call", call)
    config = config_of(place, data={"path": str(tmp_path / "data")}, epochs=3)
    (done,) = stage.train_encoder(config, tmp_path / "run")
    assert done.ledgers[0].n_out == 200
    with pytest.raises(InputError, match=r"data\.train"):
        stage.train_encoder(config, tmp_path / "run")


def test_a_loss_that_is_no_number_stops_training(place: Path, tmp_path: Path) -> None:
    from distill.errors import RunError

    with pytest.raises(RunError, match=r"loss was (nan|inf) in epoch \d.*rates"):
        trained(place, tmp_path / "out", rates={"head": 1e30, "backbone": 1e30})


def test_the_commands_train_score_and_classify(place: Path, tmp_path: Path) -> None:
    from tests.flow_helpers import distill

    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({
        "name": "mine", "data": {"path": str(place / "data")}, "backbone": {"name": str(place / "tiny")}, "epochs": 2,
        "seeds": [1, 2], "batch_size": 8}))
    done = distill("encoder", "train", "mine.yaml", cwd=tmp_path)
    assert done.returncode == 0 and "mean ± sd" in done.stdout, done.stderr
    model = "runs/mine/models/seed2"
    done = distill("encoder", "evaluate", model, "--data", str(place / "data"), cwd=tmp_path)
    assert done.returncode == 0 and "40 sentences of test: accuracy" in done.stdout, done.stderr
    (tmp_path / "texts.txt").write_text("a great film\n\nan awful plot\n")
    done = distill("encoder", "predict", model, "texts.txt", cwd=tmp_path)
    assert "1 lines were blank" in done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["text"] for row in rows] == ["a great film", "an awful plot"] and set(rows[0]["probabilities"]) == set(
        NAMES)
    assert distill("encoder", "predict", model, "none.txt", cwd=tmp_path).returncode == 2
    done = distill("encoder", "report", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "runs/mine/report/report.html").read_text()
    assert "Shishaev" not in page, "other data than SST-5 have no row in the paper"
    assert page.count("<svg") == 3
    assert "200 sentences to train on, 40 dev, 40 test" in page
    assert "http" not in page.split("</style>")[1].split("<svg")[0], "it needs nothing from elsewhere"
    assert "is no run of an encoder" in distill("encoder", "report", "nothing", cwd=tmp_path).stderr


def test_the_papers_table_2_is_as_printed(shared_dir: Path) -> None:
    from sentibench.report.encoder.build import paper_row

    sst5 = {"train": 8544, "dev": 1101, "test": 2210}
    paper = next((shared_dir / "seeds").glob("000_*")).read_text(encoding="utf-8")
    rows = [paper_row(load_config(find_encoder_config(name), (), EncoderConfig), sst5) for name in (
        "baseline", "after-n", "layerwise", "after-n-prompt", "after-n-prompt-triplet")]
    for row in rows:
        assert row and f"{row['title']}\t{row['macro_f1']}\t{row['accuracy']}" in paper
    assert paper_row(load_config(find_encoder_config("after-n-triplet"), (), EncoderConfig), sst5) is None
    of_others = load_config(find_encoder_config("baseline"), ["data.names=[bad,good]"], EncoderConfig)
    assert paper_row(of_others, sst5) is None
    assert paper_row(load_config(find_encoder_config("baseline"), (), EncoderConfig), {**sst5, "test": 9}) is None


def test_the_moments_of_unfreezing_are_those_of_the_curve() -> None:
    from sentibench.report.encoder.pictures import unfreezings

    def curve(*counts: int) -> list[dict[str, int]]:
        return [{"epoch": epoch, "trained_layers": count} for epoch, count in enumerate(counts)]

    assert unfreezings(curve(0, 0, 7, 7), 6) == [(2, "all unfrozen")]
    assert unfreezings(curve(0, 1, 1, 2, 3), 2) == [
        (1, "1 of 2 layers"), (3, "2 of 2 layers"), (4, "all unfrozen")]
    assert unfreezings(curve(0, 0), 2) == []
