"""What was exported says the same in the runtime that it was exported for: labels, likelihoods and written answers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from distill.config.schema import TransformersEngine
from distill.config.sections.engines import PluginEngine
from distill.engines import open_engine
from distill.engines.base import Engine, Request, Sampling
from distill.errors import InputError, RunError
from distill.export import gguf_model
from distill.export.gguf_model import CONVERTER, converter, write_gguf
from distill.export.onnx_model import write_onnx
from flows import export_encoder
from flows.cli.main import main
from flows.export import FORMS, export_model
from tests.support.export import tiny_student
from tests.support.model import prepended

PROMPTS = ["Sentence: The food was good.\nOutput:", "Sentence: It stopped working <|im_end|>\nOutput:", "a"]
LABELS = [[" positive", " negative", " neutral"], [" very good", " very bad", " very"], [" joy", " anger"]]
ENGINES = {"onnx": ["onnx_model:OnnxEngine"], "gguf": ["gguf_model:GgufEngine"]}
if gguf_model.has_llama_cpp():
    ENGINES["gguf"].append("gguf_model:LlamaCppEngine")


def has_converter() -> bool:
    try:
        return bool(converter())
    except InputError:
        return False


@pytest.fixture(scope="module", params=["onnx", "gguf"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
             ) -> tuple[Path, Path, list[str]]:
    """The folder of a model, what was exported from it, and the engines that ask it."""
    out = tmp_path_factory.mktemp(request.param)
    if request.param == "onnx":
        pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
        student = tiny_student(out / "student", layers=1)
        write_onnx(student, out)
    else:
        if not has_converter():
            pytest.skip("llama.cpp's converter is not installed (make install)")
        student = tiny_student(out / "student", prepended())  # one of a kind that the converter knows
        write_gguf(student, out, "f32")
    return student, out, ENGINES[request.param]


def asked(engine: Engine) -> tuple[list[list[float]], list[str]]:
    penalty = Sampling(repetition_penalty=1.3)
    scores = engine.score_labels([Request(str(place), prompt, penalty, first_tokens=True)
                                  for place, prompt in enumerate(PROMPTS)], LABELS)
    answers = engine.generate([Request(str(place), prompt, Sampling(max_tokens=5, repetition_penalty=1.3))
                               for place, prompt in enumerate(PROMPTS)])
    assert not [one.error for one in (*scores, *answers) if one.error]
    return [[*one.scores, *one.first_tokens] for one in scores], [one.text for one in answers]


def test_scores_and_answers_are_those_of_the_model(exported: tuple[Path, Path, list[str]]) -> None:
    student, out, engines = exported
    with open_engine(TransformersEngine(dtype="float32"), student) as engine:
        scores, answers = asked(engine)
    for name in engines:
        with open_engine(PluginEngine(kind="plugin", use=f"distill.export.{name}", dtype="float32"), out) as engine:
            found, written = asked(engine)
            with pytest.raises(InputError, match="likeliest tokens alone"):
                engine.generate([Request("0", "a", Sampling(temperature=1.0))])
        assert written == answers
        for one, other in zip(found, scores, strict=True):
            assert one == pytest.approx(other, abs=2e-2 if "Llama" in name else 1e-3)


def test_a_file_with_another_tokenizer_is_refused(exported: tuple[Path, Path, list[str]], monkeypatch) -> None:
    student, out, engines = exported
    if "gguf" in engines[0]:
        monkeypatch.setattr(gguf_model, "encode_prompt", lambda tokenizer, text, chat: [id(tokenizer)])
        with pytest.raises(RunError, match="makes other tokens"):
            gguf_model.refuse_other_tokens(student, out)


def test_what_the_converter_does_not_know_is_one_paragraph(tmp_path, capsys, monkeypatch):
    student = tiny_student(tmp_path / "student")
    capsys.readouterr()
    script = tmp_path / "convert_hf_to_gguf.py"
    for content, words in ((None, "--no-deps --target"), ("raise NotImplementedError('which is new')", "which is new"),
                           ("", "status 0")):
        if content is not None:
            script.write_text(content)
        monkeypatch.setenv(CONVERTER, str(tmp_path))
        with pytest.raises(SystemExit) as status:
            main(["export", str(student), "--to", "gguf", "--out", str(tmp_path / "out")])
        said = capsys.readouterr().err.strip()
        assert status.value.code == 2 and words in said and len(said.splitlines()) == 1, said
        assert not (tmp_path / "out").exists()


def test_an_encoder_is_exported_to_onnx_and_nothing_else(tmp_path, monkeypatch):
    def exporter(target: str, spec: dict, log: Path) -> dict:
        assert target == "distill.encoder.onnx:export" and spec["texts"]
        for name in ("model.onnx", "classifier.json"):
            (Path(spec["out"]) / name).write_text("{}")
        return {"texts": len(spec["texts"]), "difference": 1e-6}

    monkeypatch.setattr(export_encoder, "call_in_process", exporter)
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "classifier.json").write_text("{}")

    def run(name: str, form: str) -> str:
        return export_model(str(tmp_path / name), FORMS[form], tmp_path / "out", False, None, 8, tmp_path / "log").said

    assert "says the same of" in run("encoder", "onnx")
    assert json.loads((tmp_path / "out/sentidistill.json").read_text())["form"] == "onnx"
    for name, form, words in (("encoder", "merged", "to onnx only"), ("out", "onnx", "in ONNX already"),
                              ("encoder", "onnx", "there already")):
        with pytest.raises(InputError, match=words):
            run(name, form)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
