"""The config is closed, resolved the same way everywhere, and its errors name the nearest key."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from distill.config.load import load_config, save_config
from distill.config.schema import Teacher
from distill.errors import InputError
from distill.run.hashing import fingerprint

CONFIGS = sorted((Path(__file__).parents[2] / "flows" / "configs").glob("*.yaml"))
MINIMAL = {
    "name": "mine",
    "corpus": {"sources": [{"kind": "csv", "path": "texts.csv"}]},
    "teacher": {"model": {"name": "random-tiny"}},
    "student": {"model": {"name": "random-tiny"}},
}


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_resolves_and_is_named_after_its_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTIDISTILL_DATA", "/somewhere")
    monkeypatch.setenv("SENTIDISTILL_SHARED", "/somewhere")
    assert load_config(path).name == path.stem


def test_a_saved_config_resolves_to_itself(minimal: Path, tmp_path: Path) -> None:
    config = load_config(minimal)
    save_config(config, tmp_path / "elsewhere" / "config.yaml")
    again = load_config(tmp_path / "elsewhere" / "config.yaml")
    assert again == config and fingerprint(again.to_json()) == fingerprint(config.to_json()), "4 is not 4.0 in a print"


def test_relative_paths_are_meant_from_the_config_file(minimal: Path) -> None:
    assert load_config(minimal).corpus.sources[0].path == str(minimal.parent / "texts.csv")


def test_urls_of_sources_stay_as_they_are(minimal: Path) -> None:
    urls = ["s3://bucket/*.jsonl.zst", "https://example.org/a.csv"]
    sources = ", ".join(f"{{kind: jsonl, path: '{url}'}}" for url in urls)
    config = load_config(minimal, [f"corpus.sources=[{sources}]"])
    assert [str(source.path) for source in config.corpus.sources] == urls


def test_names_of_models_are_not_taken_for_paths(minimal: Path) -> None:
    values = yaml.safe_load(minimal.read_text())
    values["student"] = {"model": {"name": "./mine"}}
    minimal.write_text(yaml.safe_dump(values))
    config = load_config(minimal, ["teacher.model.name=meta-llama/Llama-3.1-70B-Instruct"])
    assert config.teacher.model.name == "meta-llama/Llama-3.1-70B-Instruct"
    assert config.student.model.name == str(minimal.parent / "mine")


@pytest.mark.parametrize(("override", "said"), [
    ("train.knowdist.learning_rte=1", "did you mean 'learning_rate'"),
    ("teacher.engine.max_modl_len=1", "unknown key 'teacher.engine.max_modl_len'"),
    ("corpus.sources.0.limt=1", "unknown key 'corpus.sources.0.limt'; did you mean 'limit'"),
    ("corpus.sources.7.limit=1", "position from 0 to 0"),
    ("name.deeper=1", "has no parts"),
    ("no-value", "KEY=VALUE"),
    ("train.max_length=[", "not valid YAML"),
    ("train.max_length=long", "train.max_length: input should be a valid integer"),
    ("student.kind=tiny", "student"),
    ("prompts.icldist.min_demonstrations=17", "min_demonstrations is larger"),
    ("name=../escape", "name"),
])
def test_a_bad_override_is_explained(minimal: Path, override: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config(minimal, [override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unset_variable_is_named(minimal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(InputError, match="NOWHERE"):
        load_config(minimal, ["corpus.sources.0.path=${NOWHERE}/texts.csv"])


@pytest.mark.parametrize("content", [b"", b"- a list\n", b"a: [1\n", b"\xff\xfe\x00", b"name: 3: 4\n"])
def test_a_file_that_is_no_config_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.yaml"):
        load_config(path)


def test_a_byte_order_mark_is_tolerated(minimal: Path) -> None:
    minimal.write_bytes(b"\xef\xbb\xbf" + minimal.read_bytes())
    assert load_config(minimal).name == "mine"


# Tables 16 to 21: learning rate, schedule, warm-up ratio, weight decay, Adam's second beta, by stage.
PAPER = {
    "paper-llama-3.2-1b": ((5e-6, "cosine", 0.01, 0.1, 0.95), (1e-5, "linear", 0.02, 0.01, 0.999)),
    "paper-qwen-2.5-1.5b": ((5e-5, "cosine", 0, 0.1, 0.999), (3e-5, "cosine", 0, 0.1, 0.999)),
    "paper-llama-3.2-3b": ((5e-5, "cosine", 0, 0.1, 0.999), (2e-5, "cosine", 0, 0.1, 0.999)),
}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_settings_are_those_of_its_tables(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTIDISTILL_DATA", "/somewhere")
    config = load_config(next(path for path in CONFIGS if path.stem == name))
    for stage, (rate, schedule, warmup, decay, beta2) in zip(("knowdist", "icldist"), PAPER[name], strict=True):
        values = getattr(config.train, stage)
        assert (values.learning_rate, values.lr_scheduler_type, values.warmup_ratio, values.weight_decay,
                values.adam_beta1, values.adam_beta2, values.num_train_epochs, values.global_batch_size) == (
                    rate, schedule, warmup, decay, 0.9, beta2, 4, 128)
    prompts = config.prompts
    total = (prompts.knowdist.samples, prompts.icldist.samples + prompts.general.samples)
    assert total == ((200_000, 100_000) if "3b" in name else (1_000_000, 500_000))
    assert (prompts.icldist.min_demonstrations, prompts.icldist.max_demonstrations) == (1, 16)
    assert config.teacher.model.name == "meta-llama/Llama-3.1-70B-Instruct"


def test_paths_of_the_command_line_and_the_environment_are_meant_from_here(
    minimal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("NEAR", "../near")
    said = load_config(minimal, ["corpus.sources.0.path=a.csv", "evaluate.data_dir=${NEAR}/bench"])
    assert said.corpus.sources[0].path == str(tmp_path / "here" / "a.csv")
    whole = ["corpus.sources=[{kind: text, path: b.txt}, {kind: text, path: 'shipped:data/demo/tweets.txt'}]",
             "evaluate={data_dir: bench}", "teacher.model={name: ./weights}", "student.model.name=plain-name"]
    said = load_config(minimal, whole)
    assert [source.path for source in said.corpus.sources] == [
        str(tmp_path / "here" / "b.txt"), "shipped:data/demo/tweets.txt"]
    assert said.evaluate.data_dir == str(tmp_path / "here" / "bench")
    assert (said.teacher.model.name, said.student.model.name) == (str(tmp_path / "here" / "weights"), "plain-name")
    said = load_config(minimal, ["evaluate.data_dir=${NEAR}/bench"])
    assert said.evaluate.data_dir == str(tmp_path / "near" / "bench")


def test_nothing_to_train_on_is_refused(minimal: Path) -> None:
    with pytest.raises(InputError, match="nothing to train on"):
        load_config(minimal, [f"prompts.{family}.samples=0" for family in ("knowdist", "icldist", "general")])


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS])
def test_every_shipped_config_is_found_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.run import find_config

    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert find_config(name).name == f"{name}.yaml" and find_config(name).is_file()


def test_one_value_for_the_chat_template_means_all_families(minimal: Path) -> None:
    assert not any(load_config(minimal, ["teacher.chat_template=false"]).teacher.chat_template.model_dump().values())
    chosen = load_config(minimal, ["teacher.chat_template.icldist=false"]).teacher.chat_template
    assert (chosen.knowdist, chosen.icldist, chosen.general) == (True, False, True)


@pytest.mark.parametrize("counted", [{"price_per_gpu_hour": 2.0}, {"budget": {"max_gpu_hours": 40}}])
def test_gpu_hours_behind_endpoints_need_the_number_of_gpus(counted: dict[str, Any]) -> None:
    asked = {"model": {"name": "m"}, "engine": {"kind": "openai", "base_urls": ["http://a/v1"]}, **counted}
    with pytest.raises(ValidationError, match=r"engine\.gpus"):
        Teacher.model_validate(asked)
    asked["engine"]["gpus"] = 8
    assert Teacher.model_validate(asked).engine.gpus == 8
