"""An engine of a user's own, in a file that only a config names: the one of docs/own-engine.md."""

from pathlib import Path

import pytest

from distill.config.load import load_config
from distill.config.schema import Config, Teacher
from distill.config.sections.base import semantic_fields
from distill.engines import dtype_and_device, identity, open_engine
from distill.engines.base import Output, Request
from distill.errors import InputError
from distill.generation import pool
from distill.generation.run import generate
from distill.models.weights import weights_of
from distill.run.markers import read_done
from distill.run.records import Response, read_records
from tests.support.generation import in_threads, prompts_of, written

CODE = (Path(__file__).parents[2] / "docs" / "own-engine.md").read_text().split("```python\n")[1].split("```")[0]


def engine_in(folder: Path, code: str = CODE, use: str = "echo.py:Echo", **options: object) -> dict[str, object]:
    (folder / "echo.py").write_text(code)
    return {"kind": "plugin", "use": f"{folder}/{use}", "options": options or {"word": "I say"}}


def teacher_with(engine: dict[str, object], **more: object) -> Teacher:
    return Teacher.model_validate({"model": {"name": "m"}, "engine": engine, "shard_size": 8, **more})


def test_it_answers_like_any_other_and_says_what_it_can_do(tmp_path):
    settings = teacher_with(engine_in(tmp_path)).engine
    assert (settings.capabilities.remote, settings.n_devices, dtype_and_device(settings)) == (True, 0, {})
    with open_engine(settings, None) as engine:
        asked = [Request(str(n), f"number {n}") for n in range(3)]
        assert engine.generate(asked) == [Output(str(n), f"I say m: number {n}", "stop", 3, 4) for n in range(3)]
        with pytest.raises(InputError, match="'echo' does not show the scores"):
            engine.score_labels(asked, [["a"]] * 3)
    assert engine.closed


def test_a_config_names_it_from_its_own_folder(tmp_path):
    (tmp_path / "echo.py").write_text(CODE)
    (tmp_path / "config.yaml").write_text("""
        name: own
        corpus: {sources: [{kind: text, path: texts.txt}]}
        teacher: {model: {name: m}, engine: {kind: plugin, use: "echo.py:Echo", options: {word: Yes}}, structured: true}
        student: {kind: pretrained, model: {name: s}}
        evaluate: {classify: generate}
    """)
    config = load_config(tmp_path / "config.yaml", kind=Config)
    assert config.teacher.engine.use == f"{tmp_path}/echo.py:Echo"
    assert config.teacher_evaluation_engine.kind == "plugin"
    (tmp_path / "config.yaml").write_text((tmp_path / "config.yaml").read_text().replace("generate", "score"))
    with pytest.raises(InputError, match="engine plugin shows no scores of labels"):
        load_config(tmp_path / "config.yaml", kind=Config)


@pytest.mark.parametrize(("broken", "said"), [
    ({"use": "echo.py:Other"}, "has no 'Other'"), ({"code": "class Echo:\n    pass\n"}, "set its 'capabilities'"),
    ({"word": 1, "speed": 2}, "cannot be made with the options")])
def test_what_cannot_be_an_engine_is_said_in_one_paragraph(tmp_path, broken, said):
    with pytest.raises(InputError, match=said), open_engine(teacher_with(engine_in(tmp_path, **broken)).engine, None):
        pass


def test_changed_code_options_and_model_are_changed_work_and_another_folder_is_not(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    first = teacher_with(engine_in(tmp_path / "a")).engine
    kept = identity(first)
    assert identity(teacher_with(engine_in(tmp_path / "b", CODE + "# changed\n")).engine) != kept
    assert identity(teacher_with(engine_in(tmp_path / "b", word="Other")).engine) != kept
    assert identity(teacher_with(engine_in(tmp_path / "b"), model={"name": "n"}).engine) != kept
    assert identity(teacher_with(engine_in(tmp_path / "b")).engine) == kept == semantic_fields(first)


def test_the_stage_asks_it_in_a_process_of_its_own_and_changed_code_is_changed_work(tmp_path, monkeypatch):
    path, run = written(tmp_path / "p", prompts_of(20)), tmp_path / "run"

    def made(code: str, on_change: str = "stop") -> list[str]:
        teacher = teacher_with(engine_in(tmp_path, code))
        generate("knowdist", path, teacher, weights_of(teacher.model, teacher.engine), run, 42, on_change)
        return sorted({response.output.split(" about")[0] for file in (run / "knowdist" / "responses").glob("*.parquet")
                       for response in read_records(file, Response)})

    assert made(CODE) == ["I say m: Say something"]
    stamp = read_done(run / "knowdist")
    assert made(CODE) == ["I say m: Say something"] and read_done(run / "knowdist") == stamp, "it is done"
    monkeypatch.setattr(pool, "executor", in_threads)  # one process is enough to see that it works there
    changed = CODE.replace("{self.word}", "{self.word} now")
    with pytest.raises(InputError, match="code"):
        made(changed)
    assert made(changed, "discard") == ["I say now m: Say something"]
