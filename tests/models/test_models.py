"""Models by name, their fingerprints, and depth pruning."""

import fnmatch
import json
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from distill.errors import InputError, RunError
from distill.models import (
    context_length,
    default_cache,
    depth_prune,
    load_model,
    load_tokenizer,
    model_fingerprint,
    resolve_model,
    wheel,
)
from distill.models.cache import build_once
from distill.models.hub import is_complete
from distill.models.prune import kept_layers
from distill.models.tokenization import end_token_id


def test_random_tiny_is_small_whole_and_speaks_smollm2(tiny_model: Path) -> None:
    model, tokenizer = load_model(tiny_model), load_tokenizer(tiny_model)
    assert sum(weight.numel() for weight in model.parameters()) < 1_000_000
    assert is_complete(tiny_model)
    assert context_length(tiny_model) == 8192
    assert len(tokenizer) == 49152 and tokenizer.chat_template and tokenizer.pad_token_id is not None
    ends = json.loads((tiny_model / "generation_config.json").read_text())["eos_token_id"]
    assert {end_token_id(tokenizer, chat=True), end_token_id(tokenizer, chat=False)} <= set(ends)


@pytest.mark.parametrize("offline", [False, True])
def test_random_tiny_has_the_same_files_wherever_it_is_built(
        tiny_model: Path, tmp_path: Path, offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    again = resolve_model("random-tiny", cache=tmp_path)
    assert again != tiny_model
    assert model_fingerprint(again) == model_fingerprint(tiny_model)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [again.name]


def test_a_local_folder_is_itself(tiny_model: Path) -> None:
    assert resolve_model(str(tiny_model)) == tiny_model.resolve()


@pytest.mark.parametrize("name", ["./no-such-folder", "/no/such/folder", "a/b/c", "", "smollm2-135m-instrct"])
def test_what_is_no_model_is_an_input_error_that_names_it(name: str) -> None:
    with pytest.raises(InputError, match="no model folder") as error:
        resolve_model(name)
    assert repr(name) in str(error.value) and "\n" not in str(error.value)


def test_a_misspelt_built_in_name_is_told_the_right_one() -> None:
    with pytest.raises(InputError, match="Did you mean 'random-tiny'"):
        resolve_model("random-tinny")


def test_an_unreachable_hub_model_is_one_paragraph(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no network here\nand more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(InputError, match="'org/some-model' at revision 'main' was not found") as error:
        resolve_model("org/some-model", revision="main")
    assert "no network here" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin", "none"])
def test_pickled_weights_are_taken_where_allowed_and_only_without_others(
        weights: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    remote = {"model.safetensors": {"config.json", weights, "pytorch_model.bin"},
              "pytorch_model.bin": {"config.json", weights}, "none": {"config.json"}}[weights]
    online = [True]

    def snapshot(name: str, *, allow_patterns: list[str], local_files_only: bool = False, **_: object) -> str:
        if not (local_files_only or online[0]):
            raise ConnectionError("no network here")
        if not local_files_only:
            tmp_path.mkdir(exist_ok=True)
            for file in remote:
                if any(fnmatch.fnmatch(file, pattern) for pattern in allow_patterns):
                    (tmp_path / file).write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    if weights == "none":
        with pytest.raises(InputError, match=r"no config\.json with safetensors or pytorch_model\.bin"):
            resolve_model("org/some-encoder", pickled=True)
        return
    if weights == "pytorch_model.bin":
        with pytest.raises(InputError, match=r"no config\.json with safetensors weights"):
            resolve_model("org/some-encoder")
    for _ in range(2):  # then without the Hub
        assert resolve_model("org/some-encoder", pickled=True) == tmp_path
        assert {path.name for path in tmp_path.iterdir()} == {"config.json", weights}
        online[0] = False


def test_a_folder_without_a_model_and_a_revision_without_a_hub_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        resolve_model(str(tmp_path))
    with pytest.raises(InputError, match="not a whole model"):
        model_fingerprint(tmp_path)
    for name in (str(tiny_model), "random-tiny"):
        with pytest.raises(InputError, match="has no revisions"):
            resolve_model(name, revision="main")


def test_damaged_models_are_input_errors(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="tokenizer"):
        load_tokenizer(tmp_path)
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(tmp_path)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SENTIDISTILL_CACHE", raising=False)
    assert default_cache() == tmp_path / "sentidistill"
    monkeypatch.setenv("SENTIDISTILL_CACHE", str(tmp_path / "other"))
    assert default_cache() == tmp_path / "other"


def test_what_is_built_at_once_by_many_is_built_once(tmp_path: Path) -> None:
    calls: list[Path] = []

    def build(out: Path) -> None:
        calls.append(out)
        (out / "file").write_text("whole")

    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: build_once(tmp_path / "model", build), range(8)))
    assert len(calls) == 1 and set(folders) == {tmp_path / "model"}


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def build(out: Path) -> None:
        (out / "half").write_text("")
        raise RunError("stopped in the middle")

    with pytest.raises(RunError):
        build_once(tmp_path / "model", build)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_wheel_with_another_checksum_is_refused_and_both_are_named(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SENTIDISTILL_CACHE", str(tmp_path))
    path = tmp_path / "downloads" / wheel.SMOLLM2.name
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(wheel.SMOLLM2.inside, "not the model")
    with pytest.raises(RunError, match=wheel.SMOLLM2.sha256) as error:
        resolve_model("smollm2-135m-instruct")
    assert wheel.file_digest(path) in str(error.value)


def test_without_pip_and_hub_the_reader_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    def fail(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no network here")

    monkeypatch.setenv("SENTIDISTILL_CACHE", str(tmp_path))
    monkeypatch.setattr(wheel, "_pip", lambda: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(InputError, match="ensurepip") as error:
        resolve_model("smollm2-135m-instruct")
    assert str(tmp_path / "downloads") in str(error.value) and "no network here" in str(error.value)


def test_the_fingerprint_follows_content_not_names_or_times(tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    (copy / "README.md").write_text("hello")
    assert model_fingerprint(copy) == model_fingerprint(tiny_model)
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    changed = model_fingerprint(copy)
    assert changed != model_fingerprint(tiny_model)
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    assert model_fingerprint(copy) != changed


@pytest.mark.parametrize(("total", "layers", "kept"), [
    (30, 10, [0, 3, 6, 10, 13, 16, 19, 23, 26, 29]), (4, 2, [0, 3]), (4, 4, [0, 1, 2, 3])])
def test_kept_layers_are_evenly_spaced_with_first_and_last(total: int, layers: int, kept: list[int]) -> None:
    assert kept_layers(total, layers) == kept


def test_kept_layers_are_always_distinct_and_in_order() -> None:
    for total in range(2, 40):
        for layers in range(2, total + 1):
            kept = kept_layers(total, layers)
            assert sorted(set(kept)) == kept and len(kept) == layers and kept[0] == 0 and kept[-1] == total - 1


def test_a_pruned_model_holds_the_kept_layers_weights_and_answers(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    pruned = load_model(depth_prune(tiny_model, 3, tmp_path / "pruned"))
    base = load_model(tiny_model)
    assert pruned.config.num_hidden_layers == 3
    for position, index in enumerate([0, 2, 3]):
        theirs = base.model.layers[index].state_dict()
        for name, weight in pruned.model.layers[position].state_dict().items():
            assert torch.equal(weight, theirs[name])
    assert torch.equal(pruned.model.embed_tokens.weight, base.model.embed_tokens.weight)
    assert load_tokenizer(tmp_path / "pruned")("Hello")["input_ids"] == load_tokenizer(tiny_model)("Hello")["input_ids"]
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        whole = pruned(ids).logits[:, -1]
        start = pruned(ids[:, :-1], use_cache=True)
        step = pruned(ids[:, -1:], past_key_values=start.past_key_values).logits[:, -1]
    assert torch.allclose(whole, step, atol=1e-4)


@pytest.mark.parametrize("layers", [1, 5])
def test_pruning_to_what_is_not_there_is_an_input_error(tiny_model: Path, tmp_path: Path, layers: int) -> None:
    with pytest.raises(InputError, match="choose from 2 to 4"):
        depth_prune(tiny_model, layers, tmp_path / "pruned")
    assert not (tmp_path / "pruned").exists()
