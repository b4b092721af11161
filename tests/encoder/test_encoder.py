"""Encoder students: what decides the best epoch, what is kept, what a saved model says, and what is refused."""

import json
import math
import os
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from distill.encoder import stage
from distill.errors import InputError
from distill.runtime.parallel import DeviceSlot
from tests.support.encoder import config_of, trained

NAMES = ["very negative", "negative", "neutral", "positive", "very positive"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTIDISTILL_CACHE", str(tmp_path / "cache"))


def test_the_head_alone_is_trained_first_and_then_it_learns(encoders: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    result = trained(encoders, tmp_path / "out", seed=2, triplet={}, epochs=7)
    assert [epoch["trained_layers"] for epoch in result["curve"]] == [0, 0, *[3] * 5]
    assert result["test"]["accuracy"] > 0.6 > result["curve"][1]["dev"]["accuracy"]
    best = max(result["curve"], key=lambda epoch: sum(epoch["dev"].values()))
    assert (result["best_epoch"], result["dev"]) == (best["epoch"], best["dev"])
    assert sum(map(sum, result["confusion"])) == result["counts"]["test"] == 40
    frozen = trained(encoders, tmp_path / "frozen", unfreeze={"strategy": "never"}, epochs=7)
    assert frozen["test"]["accuracy"] < result["test"]["accuracy"]
    before, after = (load_file(folder / "model.safetensors") for folder in (encoders / "tiny", tmp_path / "frozen"))
    assert all((after[name] == weight).all() for name, weight in before.items())


def test_the_test_split_decides_nothing(encoders: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    trained(encoders, tmp_path / "a")
    (tmp_path / "other").mkdir()
    shutil.copytree(encoders / "data", tmp_path / "other" / "data")
    (tmp_path / "other" / "data" / "test.txt").write_text("".join(
        f"{number % 5} the film\n" for number in range(30)))
    shutil.copytree(encoders / "tiny", tmp_path / "other" / "tiny")
    trained(tmp_path / "other", tmp_path / "b")
    for name in ("model.safetensors", "head.safetensors"):
        ours, theirs = (load_file(tmp_path / folder / name) for folder in "ab")
        assert all((ours[key] == theirs[key]).all() for key in ours)


def test_a_frozen_backbone_is_encoded_once_and_gives_the_same_as_anew(
        encoders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.encoder import embeddings, training

    first = trained(encoders, tmp_path / "a", unfreeze={"strategy": "never"})

    def never(*_: Any) -> Any:
        raise AssertionError("the backbone was asked again")

    for module in (embeddings, training):
        monkeypatch.setattr(module, "embed", never)
    second = trained(encoders, tmp_path / "b", unfreeze={"strategy": "never"})
    assert first["curve"] == [{**mine, "seconds": yours["seconds"]} for mine, yours in zip(
        second["curve"], first["curve"], strict=True)]


def test_every_epoch_has_all_rows_in_an_order_of_its_own(
        encoders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.encoder import training

    seen: dict[int, list[int]] = {}
    collate = training._Phase._collate
    monkeypatch.setattr(training._Phase, "_collate", lambda phase, places: (
        seen.setdefault(phase.epoch, []).extend(places), collate(phase, places))[1])
    trained(encoders, tmp_path / "out")
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert all(sorted(places) == list(range(200)) for places in seen.values())
    assert len({tuple(places) for places in seen.values()}) == 5


def test_head_and_backbone_have_rates_of_their_own_that_shrink_from_the_epoch_named(
        encoders: Path, tmp_path: Path) -> None:
    rates = {"head": 1e-2, "backbone": 2e-3, "decay": 0.5, "decay_after": 3}
    result = trained(encoders, tmp_path / "out", rates=rates)
    assert [epoch["rates"] for epoch in result["curve"]] == [pytest.approx([1e-2 * share, 2e-3 * share])
                                                             for share in (1, 1, 1, 0.5, 0.25)]


@pytest.mark.parametrize("in_batch", [False, True])
def test_the_loss_is_cross_entropy_and_the_weighted_triplet_loss(
        in_batch: bool, encoders: Path, tmp_path: Path) -> None:
    import torch

    from distill.encoder import training
    from distill.encoder.triplets import Triplets

    config = config_of(encoders, unfreeze={"strategy": "after_n", "epoch": 0},
                       triplet={"in_batch_negatives": in_batch, "margin": 9.0})
    job, _ = training._prepare(config, encoders / "tiny", {"seed": 1, "out": str(tmp_path)})
    optimizer = torch.optim.SGD(job.model.parameters(), lr=0.1)
    phase = training._Phase(job, 0, 1, optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer))
    places = [3, 14, 15, 92, 65, 35, 89, 79]
    model = job.model.eval()
    loss = phase.compute_loss(model, phase._collate(places)).item()

    def embedded(place: int) -> torch.Tensor:
        return model.embed(**job.texts["train"].padded([place]))[0]

    drawn = Triplets(job.sentences["train"], job.seed)
    triplets = ([tuple(places[number] for number in one) for one in drawn.draw_in(places, 0)] if in_batch else
                [(place, *drawn.draw(place, 0)) for place in places])
    assert triplets
    wrong = [-model(embeddings=embedded(place)[None]).log_softmax(-1)[0, job.sentences["train"][place].label].item()
             for place in places]
    apart = [max(0.0, ((embedded(a) - embedded(p)) ** 2).sum().item() - ((embedded(a) - embedded(n)) ** 2).sum().item()
                 + 9.0) for a, p, n in triplets]
    assert loss == pytest.approx(sum(wrong) / len(wrong) + 0.2 * sum(apart) / len(apart), rel=1e-4)


def test_weights_that_are_not_those_of_the_config_are_refused(encoders: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from distill.encoder.model import load_backbone

    shutil.copytree(encoders / "tiny", tmp_path / "other")
    weights = load_file(tmp_path / "other/model.safetensors")
    save_file({f"wrapped.{name}": value for name, value in weights.items()}, tmp_path / "other/model.safetensors",
              {"format": "pt"})
    with pytest.raises(InputError, match=r"are not those of its config\.json .*would be random"):
        load_backbone(tmp_path / "other")


def test_training_stops_when_patience_is_at_its_end_and_not_before_all_is_unfrozen(
        encoders: Path, tmp_path: Path) -> None:
    result = trained(encoders, tmp_path / "out", epochs=30, patience=2, rates={"head": 1e-9, "backbone": 1e-9},
                     unfreeze={"strategy": "layerwise", "epoch": 2})
    assert [epoch["trained_layers"] for epoch in result["curve"]] == [0, 0, 1, 2, 3, 3, 3]
    assert result["best_epoch"] == 0


def test_what_is_saved_says_the_same_when_it_is_loaded(
        encoders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.encoder import predict as module
    from distill.encoder.batches import encode
    from distill.encoder.predict import answer_texts, evaluate, load

    result = trained(encoders, tmp_path / "out", triplet={"in_batch_negatives": True})
    found = evaluate({"model": str(tmp_path / "out"), "data": str(encoders / "data"), "split": "test"})
    assert found["scores"] == result["test"] and found["confusion"] == result["confusion"]
    lines = ["a great film", "great [SEP] film", "an awful plot " * 20]
    said = answer_texts(load(tmp_path / "out"), lines)
    assert said["cut"] == 1 and set(said["labels"]) <= set(NAMES)
    assert all(sum(shares) == pytest.approx(1, abs=1e-3) for shares in said["probabilities"])
    asked: list[str] = []
    monkeypatch.setattr(module, "encode", lambda tokenizer, texts, *more: (
        asked.extend(texts), encode(tokenizer, texts, *more))[1])
    answer_texts(load(tmp_path / "out"), ["  a great film\r"])
    assert asked == ["a great film"], "as in training, where a byte-level tokenizer would see the blanks"


def test_a_data_set_on_the_hub_is_read_before_the_hub_is_taken_away(
        encoders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.encoder import data
    from distill.encoder.predict import evaluate

    def stream(_: Any) -> list[dict[str, Any]]:
        assert not {"HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"} & set(os.environ)
        return [{"text": "a great film", "label": 4}, {"text": "an awful film", "label": 0}]

    trained(encoders, tmp_path / "out", epochs=3)
    monkeypatch.setattr(data, "stream_hub", stream)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    assert evaluate({"model": str(tmp_path / "out"), "data": "hub:SetFit/sst5", "split": "test"})["n"] == 2


def test_the_exported_model_says_the_same(encoders: Path, tmp_path: Path) -> None:
    from distill.encoder.onnx import export
    from distill.encoder.predict import answer_texts, evaluate, load

    trained(encoders, tmp_path / "out", epochs=3)
    lines = ["a great film", "the plot was bad and " * 6, "an awful actor", "music"]
    told = export({"model": str(tmp_path / "out"), "out": str(tmp_path / "onnx"), "texts": lines})
    assert told["texts"] == 4 and told["difference"] < 1e-4
    ours, theirs = (answer_texts(load(tmp_path / folder), lines) for folder in ("out", "onnx"))
    assert ours["labels"] == theirs["labels"] and ours["cut"] == theirs["cut"]
    for one, other in zip(ours["probabilities"], theirs["probabilities"], strict=True):
        assert one == pytest.approx(other, abs=2e-4)
    scored = [evaluate({"model": str(tmp_path / folder), "data": str(encoders / "data"), "split": "test"})
              for folder in ("out", "onnx")]
    assert scored[0] == scored[1]
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"cannot be loaded.*Export it again"):
        load(tmp_path / "onnx")


def test_a_finished_seed_is_not_trained_again_and_other_settings_are_refused(
        encoders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.encoder.training import train

    monkeypatch.setattr(DeviceSlot, "call", lambda _self, _target, spec, _log: train(json.loads(json.dumps(spec))))
    (one,) = stage.train_encoder(config_of(encoders, epochs=3), tmp_path / "run")
    assert not one.reused and one.row_counts[0].n_in == 200
    again, other = stage.train_encoder(config_of(encoders, epochs=3, seeds=[42, 7]), tmp_path / "run")
    assert again.reused and not other.reused
    assert set(stage.spread([again, other])) == {"accuracy", "macro_f1"}
    with pytest.raises(InputError, match=r"batch_size: 8 then, 4 now.*--discard"):
        stage.train_encoder(config_of(encoders, epochs=3, batch_size=4), tmp_path / "run")


def test_a_model_that_is_no_encoder_is_refused(tiny_model: Path, encoders: Path, tmp_path: Path) -> None:
    from distill.encoder.model import load_backbone, load_classifier

    with pytest.raises(InputError, match="is not an encoder: its tokens see only those before them"):
        load_backbone(tiny_model)
    with pytest.raises(InputError, match="cannot be loaded"):
        load_backbone(tmp_path)
    with pytest.raises(InputError, match="holds no encoder classifier"):
        load_classifier(encoders / "tiny")


def test_backbones_with_pickled_weights_or_other_layers_are_taken(encoders: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AlbertConfig, AlbertModel

    from distill.encoder.model import load_backbone
    from distill.encoder.training import train
    from distill.models import model_fingerprint

    shutil.copytree(encoders / "tiny", tmp_path / "pickled")
    torch.save(load_backbone(encoders / "tiny").state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"needs config\.json and"):
        model_fingerprint(tmp_path / "pickled")
    assert model_fingerprint(tmp_path / "pickled", pickled=True) != model_fingerprint(encoders / "tiny")
    shutil.copytree(encoders / "tiny", tmp_path / "shared-layers")
    AlbertModel(AlbertConfig(
        vocab_size=64, embedding_size=16, hidden_size=32, num_hidden_layers=2, intermediate_size=64,
        num_attention_heads=2, max_position_embeddings=32)).save_pretrained(tmp_path / "shared-layers")
    for name in ("pickled", "shared-layers"):
        config = config_of(encoders, backbone={"name": str(tmp_path / name)}, epochs=3).model_dump(mode="json")
        spec = {"config": config, "backbone": str(tmp_path / name), "out": str(tmp_path / f"{name}-out"), "seed": 1}
        assert [epoch["trained_layers"] for epoch in train(spec)["curve"]] == [0, 0, 3]
    config["unfreeze"]["strategy"] = "layerwise"
    with pytest.raises(InputError, match=r"Set unfreeze\.strategy to after_n"):
        train({**spec, "config": config})


def test_texts_longer_than_the_backbone_takes_are_cut_and_counted_whatever_the_tokenizer_says(
        encoders: Path, tmp_path: Path) -> None:
    import torch
    from transformers import RobertaConfig, RobertaModel

    from distill.encoder.model import load_backbone, most_tokens
    from distill.models import load_tokenizer

    shutil.copytree(encoders / "tiny", tmp_path / "roberta")
    torch.manual_seed(0)
    RobertaModel(RobertaConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0, intermediate_size=64,
        max_position_embeddings=19)).save_pretrained(tmp_path / "roberta")
    settings = json.loads((tmp_path / "roberta/tokenizer_config.json").read_text())
    (tmp_path / "roberta/tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 10**30}))
    backbone = load_backbone(tmp_path / "roberta")
    assert most_tokens(backbone, load_tokenizer(tmp_path / "roberta")) == 18
    shutil.copytree(encoders / "data", tmp_path / "data")
    with (tmp_path / "data/train.txt").open("a") as train:
        train.write("4 " + "great film " * 30 + "\n")
    shutil.copytree(tmp_path / "roberta", tmp_path / "tiny")
    result = trained(tmp_path, tmp_path / "out", epochs=3)
    assert result["cut"]["train"] == 1
    assert json.loads((tmp_path / "out/classifier.json").read_text())["max_length"] == 18


def test_a_prompt_that_leaves_no_room_for_texts_is_refused(encoders: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The task prompt alone takes \d+ of the 16 tokens"):
        trained(encoders, tmp_path / "out", prompt=True, max_length=16)


def test_seeds_are_trained_on_the_rows_the_run_began_with(
        encoders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.encoder.training import train

    shutil.copytree(encoders / "data", tmp_path / "data")

    def call(_seat: DeviceSlot, _target: str, spec: dict[str, Any], _log: Path) -> dict[str, Any]:
        (tmp_path / "data/train.txt").write_text("0 film\n1 film\n2 film\n3 film\n4 film\n")  # edited meanwhile
        return train(json.loads(json.dumps(spec)))

    monkeypatch.setattr(DeviceSlot, "call", call)
    config = config_of(encoders, data={"path": str(tmp_path / "data")}, epochs=3)
    (done,) = stage.train_encoder(config, tmp_path / "run")
    assert done.row_counts[0].n_out == 200
    with pytest.raises(InputError, match=r"data\.train"):
        stage.train_encoder(config, tmp_path / "run")


def test_a_loss_that_is_no_number_stops_training(encoders: Path, tmp_path: Path) -> None:
    from distill.errors import RunError

    with pytest.raises(RunError, match=r"loss was (nan|inf) in epoch \d.*rates"):
        trained(encoders, tmp_path / "out", rates={"head": 1e12, "backbone": 1e12})


@pytest.mark.parametrize("part", ["plain", "ours", "frozen", "inference"])
def test_each_part_of_the_speed_benchmark_ends_with_figures(part: str, encoders: Path, tmp_path: Path) -> None:
    from benchmarks.encoder_speed import PARTS

    asked = Namespace(data=encoders / "data", backbone=str(encoders / "tiny"), steps=2)
    found = PARTS[part](asked, tmp_path)
    assert found and all(math.isfinite(value) for value in found.values())
    assert found.get("labels that ONNX says otherwise", 0) == 0
