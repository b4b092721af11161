"""An exported folder is the student: whole or absent, asked as it was trained, and loaded by what others load with."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from distill.config.load import load_config, save_config
from distill.config.schema import VllmEngine
from distill.engines import open_engine
from distill.engines.base import Request, Sampling
from distill.errors import InputError
from distill.export.folder import exported_folder, write_record
from distill.models import load_model, model_fingerprint
from distill.run.folder import claim
from distill.run.stage import run_stage
from distill.run.storage import write_json
from flows import export
from flows.cli.main import main
from flows.export import FORMS, export_model
from flows.run import find_config
from flows.students import find_student
from sentidistill import load
from tests.support.export import tiny_adapters, tiny_student
from tests.support.prediction import finish_run

PROMPT = "Sentence: The food was good.\nOutput:"


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return tiny_student(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def merged(tmp_path_factory, student) -> Path:
    folder = tmp_path_factory.mktemp("merged")
    tiny_adapters(folder / "adapters", student)
    return write(folder / "adapters", folder / "out")


def write(name: object, out: Path, **options) -> Path:
    overwrite = options.pop("overwrite", False)
    return export_model(str(name), FORMS["merged"], out, overwrite, None, 0, out.parent / "log", **options).folder


def logits_of(folder: Path) -> torch.Tensor:
    with torch.inference_mode():
        return load_model(folder, "float32", "cpu")(torch.arange(5, 40)[None]).logits


def test_a_model_is_exported_byte_by_byte(student, tmp_path):
    out = write(student, tmp_path / "out")
    assert model_fingerprint(out) == model_fingerprint(student)
    assert find_student(str(out)).identity == find_student(str(student)).identity
    assert "not recorded" in (out / "README.md").read_text()


def test_adapters_are_merged(merged, student):
    from peft import PeftModel

    with torch.inference_mode():
        beside = PeftModel.from_pretrained(load_model(student, "float32", "cpu"), merged.parent / "adapters")(
            torch.arange(5, 40)[None]).logits
    assert torch.allclose(logits_of(merged), beside, atol=1e-4)
    assert not torch.allclose(logits_of(merged), logits_of(student), atol=1e-2)


def test_pipeline_and_vllm_load_the_folder_and_write_the_same(merged):
    pytest.importorskip("vllm", reason="vLLM is not installed (extra cpu or gpu)")
    from transformers import pipeline

    ask = pipeline("text-generation", model=str(merged), return_full_text=False, do_sample=False, dtype=torch.float32)
    theirs = ask(PROMPT, max_new_tokens=8)[0]["generated_text"]
    with open_engine(VllmEngine(kind="vllm", max_model_len=256, kv_cache_gb=1, dtype="float32"), merged) as engine:
        (ours,) = engine.generate([Request("0", PROMPT, Sampling(max_tokens=8))])
    assert ours.text == theirs.rstrip("\ufffd") and ours.text  # a character that was cut is left out


def test_a_run_takes_its_tasks_and_demonstrations_along(tmp_path):
    run = claim(tmp_path / "mine")
    pool = [{"text": f"text {n}", "sentiment": "positive", "emotions": ["happiness"], "emotions_goemotions": ["joy"]}
            for n in range(20)]
    (tmp_path / "pool.json").write_text(json.dumps(pool))
    config = load_config(find_config("demo"), ["prompts.icldist.weights={sentiment: 0}",
                                               f"prompts.icldist.demonstrations={tmp_path / 'pool.json'}"])
    save_config(config, run / "config.yaml")

    finish_run(run, config, tiny_student)
    out = write("mine", tmp_path / "out", runs_dir=str(tmp_path))
    again = write(out, tmp_path / "again")
    for folder in (out, again):
        assert find_student(str(folder), shots=3).identity == find_student(str(run), shots=3).identity


def test_what_is_exported_gives_the_probabilities_of_its_run(tmp_path):
    run, config = claim(tmp_path / "mine"), load_config(find_config("demo"))
    save_config(config, run / "config.yaml")
    finish_run(run, config, tiny_student)
    plain = find_student(str(run))
    asked = {task: find_student(str(run), task).spec["question"] for task in ("sentiment", "emotion")}

    def fitted(folder):
        write_json(folder / "calibration.json", {
            "sentiment": {"rows": 60, "temperature": 3.5, "before": None, "after": None},
            "emotion": {"rows": 3, "temperature": None, "before": None, "after": None}})
        return [], {}

    run_stage(run / "calibration", {"model": plain.identity["weights"], "questions": asked}, fitted)
    out = write("mine", tmp_path / "out", runs_dir=str(tmp_path))
    again = write(out, tmp_path / "again")
    of_run = find_student(str(run))
    assert of_run.spec["temperature"] == 3.5 and find_student(str(out)).identity == of_run.identity
    assert find_student(str(again)).identity == of_run.identity
    assert "temperature" not in find_student(str(out), shots=2).spec  # it was not fitted for that
    found = []
    for place in (run, out):
        with load(str(place)) as model:
            found.append(model("Room was tiny").probabilities)
    assert found[0] == found[1]
    (again / "calibration.json").unlink()
    with load(str(again)) as model:
        assert model("Room was tiny").probabilities != found[0]
    (again / "calibration.json").write_text('{"model": "x", "tasks": {"sentiment": {"temperature": 0}}}')
    with pytest.raises(InputError, match="holds no temperature of the task 'sentiment'"):
        find_student(str(again))


def test_a_folder_is_whole_or_absent_and_nothing_of_others_is_replaced(student, tmp_path):
    with pytest.raises(OSError, match="full"), exported_folder(tmp_path / "out", False) as part:
        (part / "config.json").write_text("{}")
        raise OSError("disk full")
    assert not list(tmp_path.iterdir())
    out = write(student, tmp_path / "out")
    (out / "left over").touch()
    with pytest.raises(InputError, match="is there already"):
        write(student, out)
    write(student, out, overwrite=True)
    assert not (out / "left over").exists() and [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").touch()
    with pytest.raises(InputError, match="not made by 'distill export'"):
        write(student, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "precious").exists()


def test_answers_are_compared_and_a_difference_is_an_error_that_leaves_the_files(student, tmp_path, capsys,
                                                                               monkeypatch):
    def spoilt(source: Path, out: Path) -> None:  # the least likely label of two becomes the likeliest
        export.write_merged(source, out)
        weights = load_file(out / "model.safetensors")
        weights["model.norm.weight"] *= -1
        save_file(weights, out / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setitem(FORMS, "merged", export.Form("merged", "transformers", spoilt, FORMS["merged"].engine))
    with pytest.raises(SystemExit) as status:
        main(["export", str(student), "--to", "merged", "--check-tasks", "sst2,irony18", "--check-limit", "3",
              "--tolerance", "0", "--out", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert status.value.code == 1 and "are still there" in said.err and (tmp_path / "out" / "config.json").is_file()
    assert all(word in said.out for word in ("sst2", "irony18", "mean"))


def test_a_model_for_another_runtime_is_no_student(student, tmp_path):
    out = write(student, tmp_path / "out")
    write_record(out, form="gguf")
    with pytest.raises(InputError, match="a model as gguf"):
        find_student(str(out))


def test_what_cannot_be_exported_is_one_paragraph(student, tmp_path, capsys):
    adapters = tiny_adapters(tmp_path / "adapters", student)
    (adapters / "adapter_config.json").write_text('{"base_model_name_or_path": "./gone"}')
    for arguments, words in ((["./nowhere"], "no model folder"), ([str(adapters)], "not to be had"),
                             ([str(student), "--check-limit", "-1"], "0 or more"),
                             ([str(student), "--check-tasks", "sst3"], "Did you mean"),
                             ([str(student), "--out", "/"], "end in a name")):
        with pytest.raises(SystemExit) as status:
            main(["export", "--to", "merged", "--out", str(tmp_path / "out"), *arguments])
        said = capsys.readouterr().err.strip()
        assert status.value.code == 2 and words in said and len(said.splitlines()) == 1, said
    assert not (tmp_path / "out").exists()
