"""A model is loaded whole or not at all, by every way in which models are loaded."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from distill.encoder.model import load_backbone, load_classifier, save_classifier
from distill.engines.base import Request
from distill.engines.encoding import NOT_A_NUMBER, Encoded, label_scores
from distill.errors import InputError, RunError
from distill.models import count_parameters, depth_prune, load_model, load_tokenizer
from distill.models.whole import refuse_incomplete
from distill.run.storage import json_text, read_json, write_json
from distill.training.checkpoints import refuse_partial
from tests.support.encoder import config_of, tiny_encoder
from tests.support.model import byte_level, sentence_piece, tiny_llama, word_piece

Weights = dict[str, torch.Tensor]
LAYER = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama") / "model", byte_level())


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("SENTIDISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))


def changed(model: Path, out: Path, weights: Callable[[Weights], Weights] = lambda found: found, **config: Any) -> Path:
    """Return a copy of a model with other weights, or another config."""
    shutil.copytree(model, out)
    save_file({name: weight.contiguous() for name, weight in weights(load_file(out / "model.safetensors")).items()},
              out / "model.safetensors", {"format": "pt"})
    write_json(out / "config.json", {**read_json(out / "config.json"), **config})
    return out


def in_shards(model: Path, out: Path) -> Path:
    """Return a copy of a model in two files with an index."""
    shutil.copytree(model, out)
    found = sorted(load_file(model / "model.safetensors").items())
    (out / "model.safetensors").unlink()
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    for name, part in zip(names, (found[::2], found[1::2]), strict=True):
        save_file(dict(part), out / name, {"format": "pt"})
    write_json(out / "model.safetensors.index.json", {"weight_map": {
        tensor: names[place % 2] for place, (tensor, _) in enumerate(found)}})
    return out


def every_other(found: Weights) -> Weights:
    return dict(sorted(found.items())[::2])


def spoilt(value: float) -> Callable[[Weights], Weights]:
    def spoil(found: Weights) -> Weights:
        found[LAYER][3, 3] = value
        return found

    return spoil


def without(word: str) -> Callable[[Weights], Weights]:
    return lambda found: {name: weight for name, weight in found.items() if word not in name}


def other_head(found: Weights) -> Weights:
    return {**found, "lm_head.weight": found["model.embed_tokens.weight"] + 1}


WAYS: dict[str, Callable[[Path], Any]] = {
    "by transformers": load_model, "before vLLM starts": refuse_incomplete,
    "to prune": lambda folder: depth_prune(folder, 2, folder.with_name("pruned"))}
FOREIGN: dict[str, tuple[Callable[[Weights], Weights], dict[str, Any], str]] = {
    "half of the tensors": (every_other, {}, "are missing and would be random"),
    "no embeddings": (without("embed"), {}, "are missing and would be random"),
    "a head of its own that is not there": (dict, {"tie_word_embeddings": False}, "lm_head"),
    "fewer layers in the config": (dict, {"num_hidden_layers": 2}, "have no place in the model"),
    "more layers in the config": (dict, {"num_hidden_layers": 4}, "9 are missing"),
    "wider layers in the config": (dict, {"intermediate_size": 64}, r"another shape .*\[16, 32\].*\[16, 64\]"),
    "another vocabulary in the config": (dict, {"vocab_size": 500}, "another shape"),
    "biases that the config leaves out": (
        lambda found: {**found, "model.layers.0.self_attn.q_proj.bias": torch.zeros(16)}, {}, "have no place"),
    "a norm that the config leaves out": (
        lambda found: {**found, "model.layers.0.self_attn.q_norm.weight": torch.ones(8)}, {}, "have no place"),
    "a head that the config ties": (other_head, {}, "tie_word_embeddings"),
    "NaN": (spoilt(math.nan), {}, f"NaN or infinity .*{LAYER}"),
    "infinity": (spoilt(-math.inf), {}, "NaN or infinity")}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(("weights", "config", "words"), FOREIGN.values(), ids=FOREIGN)
def test_weights_that_are_not_the_configs_are_refused_by_every_way_of_loading(
        llama: Path, tmp_path: Path, way: Callable[[Path], Any], weights: Callable[[Weights], Weights],
        config: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        way(changed(llama, tmp_path / "model", weights, **config))
    assert "\n" not in str(error.value) and str(tmp_path / "model") in str(error.value)


HARMLESS: dict[str, Callable[[Weights], Weights]] = {
    "as it was": dict, "the tied head twice": lambda found: {
        **found, "lm_head.weight": found["model.embed_tokens.weight"].clone()},
    "a head of another use": lambda found: {**found, "v_head.summary.weight": torch.zeros(1, 16)},
    "tables of older versions": lambda found: {
        **found, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)},
    "names without the prefix": lambda found: {name.removeprefix("model."): one for name, one in found.items()}}


@pytest.mark.parametrize("weights", HARMLESS.values(), ids=HARMLESS)
def test_what_does_no_harm_is_loaded(llama: Path, tmp_path: Path, weights: Callable[[Weights], Weights]) -> None:
    folder = changed(llama, tmp_path / "model", weights)
    refuse_incomplete(folder)
    ours, theirs = load_model(folder).state_dict(), load_model(llama).state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def damage(folder: Path, kind: str) -> None:
    first, second = sorted(folder.glob("model-*.safetensors"))
    if kind == "a file is gone":
        second.unlink()
    elif kind == "a file is cut off":
        first.write_bytes(first.read_bytes()[:-100])
    elif kind == "a file is empty":
        first.write_bytes(b"")
    elif kind == "a tensor is gone":
        save_file(without(LAYER)(load_file(first)) | {"other": torch.zeros(1)}, first, {"format": "pt"})
        save_file(without(LAYER)(load_file(second)) | {"more": torch.zeros(1)}, second, {"format": "pt"})
    elif kind == "two sets of weights":
        save_file(load_file(first), folder / "model.safetensors", {"format": "pt"})
    elif kind == "adapters beside it":
        write_json(folder / "adapter_config.json", {"peft_type": "LORA"})
    elif kind == "the index says nothing":
        write_json(folder / "model.safetensors.index.json", {"weight_map": {}})
    else:
        write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": "../../model.safetensors"}})


@pytest.mark.parametrize("kind", ["a file is gone", "a file is cut off", "a file is empty", "a tensor is gone",
                                  "two sets of weights", "adapters beside it", "the index says nothing",
                                  "the index leads away"])
def test_files_that_are_missing_damaged_or_doubtful_are_one_paragraph(llama: Path, tmp_path: Path, kind: str) -> None:
    folder = in_shards(llama, tmp_path / "model")
    assert count_parameters(folder) == count_parameters(llama)
    refuse_incomplete(folder)
    damage(folder, kind)
    for way in (load_model, refuse_incomplete):
        with pytest.raises(InputError) as error:
            way(folder)
        assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_was_found_well_is_not_read_again_unless_it_changed(
        llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.models import finite

    folder, read = changed(llama, tmp_path / "model"), []
    monkeypatch.setattr(finite, "is_finite", lambda tensor, real=finite.is_finite: read.append(1) or real(tensor))
    refuse_incomplete(folder)
    first = len(read)
    refuse_incomplete(folder)
    assert first and len(read) == first
    save_file(spoilt(math.nan)(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    with pytest.raises(InputError, match="NaN"):
        refuse_incomplete(folder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_one_number_that_is_not_finite_is_found_in_every_number_format(dtype: torch.dtype) -> None:
    from distill.models.finite import is_finite

    weight = torch.ones(7, 5).to(dtype)
    assert is_finite(weight) and is_finite(torch.zeros(0)) and is_finite(torch.tensor([1, 2]))
    for value in (math.nan, *((math.inf, -math.inf) if dtype.itemsize > 1 else ())):
        bad = torch.ones(7, 5)
        bad[4, 2] = value
        assert not is_finite(bad.to(dtype))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


def test_an_encoder_may_lack_a_pooler_and_bring_a_head_and_nothing_else(encoder: Path, tmp_path: Path) -> None:
    inside = "encoder.layer.1.output.dense.weight"
    for number, (weights, config) in enumerate((
            (without("pooler"), {}),
            (lambda found: {f"bert.{name}": one for name, one in without("pooler")(found).items()} | {
                "cls.predictions.bias": torch.zeros(9)}, {}))):
        load_backbone(changed(encoder, tmp_path / f"well{number}", weights, **config))
    nothing: dict[str, Any] = {}
    for number, (weights, config, words) in enumerate((
            (without(inside), nothing, "are missing"), (dict, {"num_hidden_layers": 1}, "no place"),
            (dict, {"num_hidden_layers": 3}, "are missing"), (dict, {"intermediate_size": 32}, "another shape"),
            (lambda found: {**found, inside: found[inside] * math.nan}, nothing, "NaN"))):
        with pytest.raises(InputError, match=words):
            load_backbone(changed(encoder, tmp_path / f"bad{number}", weights, **config))


def test_a_classifier_with_a_damaged_or_spoilt_head_is_refused_and_never_saved(encoder: Path, tmp_path: Path) -> None:
    from distill.encoder.model import Classifier

    config = config_of(encoder.parent)
    model, tokenizer = Classifier(load_backbone(encoder), config.head, 5), load_tokenizer(encoder)
    folder = tmp_path / "classifier"
    save_classifier(model, tokenizer, config, folder, bfloat16=False)
    load_classifier(folder)
    head = load_file(folder / "head.safetensors")
    for damaged in ({name: one * math.nan for name, one in head.items()}, dict(sorted(head.items())[1:])):
        save_file(damaged, folder / "head.safetensors")
        with pytest.raises(InputError, match=r"head\.safetensors"):
            load_classifier(folder)
    torch.nn.init.constant_(model.head[1].bias, math.nan)
    with pytest.raises(RunError, match="no model was written"):
        save_classifier(model, tokenizer, config, tmp_path / "other", bfloat16=False)
    assert not (tmp_path / "other").exists()


def test_a_trained_model_with_spoilt_weights_is_never_saved(llama: Path, tmp_path: Path) -> None:
    from distill.training.export import save_model

    model, tokenizer = load_model(llama), load_tokenizer(llama)
    with torch.no_grad():
        model.model.norm.weight[0] = math.inf
    with pytest.raises(RunError, match="no model was written"):
        save_model(model, tokenizer, tmp_path, bfloat16=False)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_lacks_weights_is_not_gone_on_from(llama: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = load_model(llama)
    adapted = get_peft_model(load_model(llama), LoraConfig(r=2, target_modules=["q_proj"]))
    for name, one, file in (("full", model, "model.safetensors"), ("lora", adapted, "adapter_model.safetensors")):
        one.save_pretrained(tmp_path / name)
        refuse_partial(tmp_path / name, one)
        path = tmp_path / name / file
        found = load_file(path)
        for damaged in (dict(sorted(found.items())[1:]), {key: weight[:1] for key, weight in found.items()},
                        {key: weight * math.nan for key, weight in found.items()}):
            save_file({key: weight.contiguous() for key, weight in damaged.items()}, path)
            with pytest.raises(InputError, match=name):
                refuse_partial(tmp_path / name, one)
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(InputError, match="cut off"):
            refuse_partial(tmp_path / name, one)


def test_adapters_that_were_not_all_trained_are_not_merged(llama: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from distill.training.adapters import merged

    model = get_peft_model(load_model(llama), LoraConfig(r=2, target_modules=["q_proj"]))
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    merged(model, llama, weights)
    with pytest.raises(RunError, match="cannot be merged"):
        merged(model, llama, dict(sorted(weights.items())[1:]))


def edited(folder: Path, out: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Return a copy of a model with another tokenizer.json."""
    shutil.copytree(folder, out)
    settings = json.loads((out / "tokenizer.json").read_text())
    change(settings)
    (out / "tokenizer.json").write_text(json.dumps(settings))
    return out


def test_a_tokenizer_of_another_model_is_refused(llama: Path, tmp_path: Path) -> None:
    for number, (tokenizer, config) in enumerate((
            (byte_level(), {"vocab_size": 300}), (sentence_piece("first"), {"vocab_size": 9000}),
            (sentence_piece("first"), {"eos_token_id": 200}), (sentence_piece("first"), {"pad_token_id": 201}))):
        folder = changed(llama, tmp_path / str(number), **config)
        tokenizer.save_pretrained(folder)
        with pytest.raises(InputError, match="another model's") as error:
            load_tokenizer(folder)
        assert "\n" not in str(error.value)


def test_a_special_token_without_an_embedding_is_refused_only_if_prompts_can_hold_it(
        llama: Path, tmp_path: Path) -> None:
    for name, settings, well in (("image", {"extra_special_tokens": ["<image>"]}, True),
                                 ("end", {"eos_token": "<end>"}, False)):
        folder, tokenizer = changed(llama, tmp_path / name), byte_level()
        tokenizer.add_special_tokens(settings)
        assert len(tokenizer) > read_json(folder / "config.json")["vocab_size"]
        tokenizer.save_pretrained(folder)
        if well:
            load_tokenizer(folder)
        else:
            with pytest.raises(InputError, match="another model's"):
                load_tokenizer(folder)


def test_a_tokenizer_that_makes_nothing_of_words_is_refused(llama: Path, tmp_path: Path) -> None:
    def empty(settings: dict[str, Any]) -> None:
        settings["model"].update(vocab={}, merges=[])

    def only_special(settings: dict[str, Any]) -> None:
        settings["model"]["vocab"] = {token: number for token, number in settings["model"]["vocab"].items()
                                      if number < 4}

    word_piece().save_pretrained(tmp_path / "bert")
    load_tokenizer(tmp_path / "bert")
    for number, folder in enumerate((edited(llama, tmp_path / "one", empty),
                                     edited(tmp_path / "bert", tmp_path / "two", only_special))):
        with pytest.raises(InputError, match="ordinary words into unknown tokens or into nothing"):
            load_tokenizer(folder)
        (folder / "tokenizer.json").write_text("{" if number else "[]")
        with pytest.raises(InputError, match="cannot be loaded"):
            load_tokenizer(folder)


def test_a_large_vocabulary_that_has_lost_its_merges_or_its_words_is_refused(llama: Path, tmp_path: Path) -> None:
    def grown(settings: dict[str, Any]) -> dict[str, Any]:
        settings["model"]["vocab"] |= {f"zz{number}": 1000 + number for number in range(5000)}
        return settings["model"]

    folder = edited(llama, tmp_path / "merges", lambda settings: grown(settings).update(merges=[]))
    write_json(folder / "config.json", {**read_json(folder / "config.json"), "vocab_size": 6000})
    with pytest.raises(InputError, match="lost its merges"):
        load_tokenizer(folder)


@given(st.recursive(st.floats() | st.none() | st.text(max_size=3), lambda inside: st.lists(inside, max_size=3)
                    | st.dictionaries(st.text(max_size=3), inside, max_size=3)))
def test_no_json_holds_a_number_that_json_does_not_have(value: Any) -> None:
    def no(word: str) -> None:
        raise AssertionError(word)

    try:
        text = json_text(value, "A result")
    except RunError as error:
        assert any(word in str(error) for word in ("would hold nan", "would hold inf", "would hold -inf"))
        assert "NaN" in json.dumps(value) or "Infinity" in json.dumps(value)
    else:
        assert json.loads(text, parse_constant=no) == value


def test_a_result_that_is_no_number_is_not_written_and_the_place_is_named(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(RunError, match=r"result\.json would hold nan at loss\.curve\[1\]\[0\]"):
        write_json(path, {"loss": {"curve": [[1.0], [math.nan]]}})
    assert read_json(path) == {"a": 1} and list(tmp_path.iterdir()) == [path]


def test_label_scores_that_are_no_numbers_are_an_error_of_their_request() -> None:
    well, bad = (label_scores(Request("a", "x"), Encoded([1, 2]), scores, "first_token")
                 for scores in ((-1.0, -2.0), (math.nan, -1.0)))
    assert well.scores == (-1.0, -2.0) and not well.error
    assert bad.scores == () and bad.error == NOT_A_NUMBER and bad.n_prompt_tokens == 2
