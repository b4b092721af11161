"""Configs from unknown hands: paths wherever they stand, YAML that unfolds, numbers and files without end."""

import os
import socket
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from distill.config import yaml_text
from distill.config.load import load_config, read_yaml, validate
from distill.config.paths import marks_of, models_of, resolve_paths
from distill.config.schema import Config
from distill.config.sections.base import PathMark
from distill.config.sections.encoder import EncoderConfig
from distill.config.yaml_text import parse_yaml
from distill.errors import InputError
from distill.run.storage import lines_of, read_json, regular_file

KINDS = {"Config": Config, "EncoderConfig": EncoderConfig}
NO_PATHS = {
    "name", "seed", "dataset", "split", "revision", "text_column", "domain", "prompt_column", "completion_column",
    "languages", "left_out_categories", "stop", "phrases", "target_modules", "names", "verbalizer", "base_urls",
    "api_key_variable", "model", "members", "title", "field", "task"}
"""Keys of strings that are no paths. A new one goes here, or gets a type that says what it is."""


def strings(kind: type, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every field of the schema that can hold a string of the user's choice, with the keys that lead to it."""
    for name, field in kind.model_fields.items():  # type: ignore[attr-defined]
        if str in leaves(field.annotation) or any(isinstance(one, PathMark) for one in field.metadata):
            yield (*keys, name), field
        for model in models_of(field.annotation):
            yield from strings(model, (*keys, name))


def leaves(annotation: Any) -> set[Any]:
    """The plain types in an annotation, but for the keys of mappings."""
    if typing.get_origin(annotation) is dict:
        return leaves(typing.get_args(annotation)[1])
    inside = [item for item in typing.get_args(annotation) if typing.get_origin(annotation) is not typing.Literal]
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return {annotation}
    return {leaf for item in inside for leaf in leaves(item)}


def marked(field: Any) -> list[PathMark]:
    return [*(one for one in field.metadata if isinstance(one, PathMark)), *marks_of(field.annotation)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_string_of_the_schema_says_whether_it_is_a_path(kind: str) -> None:
    found = list(strings(KINDS[kind]))
    assert len(found) > 10
    undecided = {".".join(keys) for keys, field in found if not marked(field) and keys[-1] not in NO_PATHS}
    assert not undecided, "a path? Give it a type of distill/config/sections/base.py; else name it in NO_PATHS"


@pytest.mark.parametrize("kind", KINDS)
def test_every_path_of_a_config_is_meant_from_its_folder(kind: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there.yaml").write_text("")
    seen = set()
    for keys, field in strings(KINDS[kind]):
        for mark in marked(field):
            named = {"always": "there/x", "folder": "there", "file": "there.yaml", "task": "own.yaml",
                     "code": "own.py:Name"}[mark.means]
            elsewhere = "/a/b.py:Name" if mark.means == "code" else "/a/b.yaml"
            for written, path in ((named, tmp_path / named), (f"./{named}", tmp_path / named),
                                  (f"~/{named}", Path.home() / named), (elsewhere, Path(elsewhere))):
                for value in (written, [written]):
                    config: Any = value
                    for key in reversed(keys):
                        config = {key: config}
                    # A list of parts is met wherever the schema has one; a part alone is taken as well.
                    resolved: Any = resolve_paths(config, KINDS[kind], tmp_path)
                    for key in keys:
                        resolved = resolved[key]
                    assert resolved == ([str(path)] if isinstance(value, list) else str(path)), keys
            seen.add(".".join(keys))
    assert {"Config": {"corpus.sources.path", "teacher.engine.tokenizer", "teacher.engine.tokenizer.name",
                       "teacher_eval.judge.engine.tokenizer.name", "evaluate.tasks", "evaluate.data_dir",
                       "train.launch", "rows.knowdist.tasks", "student.model.name", "runs_dir"},
            "EncoderConfig": {"data.texts", "data.path", "backbone.name", "teacher.model.name", "runs_dir"}
            }[kind] <= seen


@pytest.mark.parametrize("written", [
    "hub:SetFit/sst5", "shipped:data/x", "s3://bucket/x", "https://host/x", "org/model", "random-tiny", "sst2", ""])
def test_what_is_no_path_stays_as_it_is(written: str, tmp_path: Path) -> None:
    for part in ({"teacher": {"model": {"name": written}}}, {"evaluate": {"tasks": [written]}}):
        assert resolve_paths(part, Config, tmp_path) == part
    if ":" in written or not written:
        data = {"evaluate": {"data_dir": written}}
        assert resolve_paths(data, Config, tmp_path) == data


MINIMAL = {"name": "mine", "corpus": {"sources": [{"kind": "csv", "path": "texts.csv"}]},
           "teacher": {"model": {"name": "random-tiny"}}, "student": {"model": {"name": "random-tiny"}}}


def test_a_config_and_the_command_line_each_mean_their_own_folder(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "configs" / "student").mkdir(parents=True)
    (tmp_path / "here" / "student").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    config = tmp_path / "configs" / "mine.yaml"
    config.write_text("""
name: mine
corpus: {sources: [{kind: csv, path: texts.csv}]}
teacher: {model: {name: org/model}, engine: {kind: openai, base_urls: 'http://h/v1', tokenizer: ./tokenizer}}
student: {model: {name: student}}
evaluate: {tasks: [sst2, own.yaml], models: [base]}
""")
    read = load_config(config)
    assert str(read.corpus.sources[0].path) == str(tmp_path / "configs/texts.csv")  # type: ignore[union-attr]
    assert read.teacher.engine.tokenizer.name == str(tmp_path / "configs/tokenizer")  # type: ignore[union-attr]
    assert read.student.model.name == str(tmp_path / "configs/student") and read.runs_dir == "runs"
    assert read.evaluate.tasks == ["sst2", str(tmp_path / "configs/own.yaml")]
    changed = load_config(config, [
        "student.model.name=student", "evaluate.tasks=[own.yaml]", "runs_dir=runs", "corpus.sources.0.path=~/a.csv",
        "teacher.engine={kind: openai, base_urls: 'http://h/v1', tokenizer: ./t}"])
    assert changed.student.model.name == str(tmp_path / "here/student")
    assert changed.evaluate.tasks == [str(tmp_path / "here/own.yaml")]
    assert changed.runs_dir == str(tmp_path / "here/runs")
    assert str(changed.corpus.sources[0].path) == str(Path.home() / "a.csv")  # type: ignore[union-attr]
    assert changed.teacher.engine.tokenizer.name == str(tmp_path / "here/t")  # type: ignore[union-attr]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(("text", "said"), [
    (BOMB, "unfold"), ("a: &a [*a]", "inside"), ("a: &a {b: [{c: *a}]}", "inside"), ("[" * 500, "deep"),
    ("{a: " * 300 + "1" + "}" * 300, "deep"), ("- " * 5000 + "x", "deep"), ("seed: " + "9" * 5000, "digits"),
    ("seed: " + ":".join(["1"] * 100_000), "digits"), ("a: 1\nb: 2\na: 3", "line 1"),
    ("train: {max_length: 1, max_length: 2}", "'max_length'"), ("a: \x00", "YAML"),
    ("a: !!python/object:os.system x", "YAML"),
    ("a: 2024-13-45", "YAML"), ("? [1, 2]\n: x", "YAML"), ("a: *b", "YAML"), ("\ufffe", "YAML"), ("a: b: c", "YAML")])
def test_yaml_from_unknown_hands_is_refused_in_a_paragraph(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_yaml(tmp_path / "c.yaml")


def test_what_other_libraries_take_out_of_yaml_is_still_read() -> None:
    """Whether they were imported before us or after, from the table of what is a date or of how one is made."""
    there = Path(yaml_text.__file__)
    before, after = "as_text(); import {0} as it", "import {0} as it; as_text()"
    for order in (before, after):
        script = f"""
import yaml
def as_text():
    yaml.SafeLoader.yaml_constructors["tag:yaml.org,2002:timestamp"] = yaml.SafeLoader.yaml_constructors[
        "tag:yaml.org,2002:str"]
    for table in (yaml.SafeLoader.yaml_implicit_resolvers, yaml.resolver.Resolver.yaml_implicit_resolvers):
        table.clear()
{order.format("distill.config.yaml_text")}
assert yaml.safe_load("2024-11-05") == "2024-11-05"
print(repr(it.parse_yaml("[2024-11-05, 1, true, 1.5]", "it")))
"""
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=there.parents[2])
        assert run.stdout.strip() == "[datetime.date(2024, 11, 5), 1, True, 1.5]", run.stderr


def test_anchors_that_unfold_to_little_are_fine() -> None:
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, x: 3}", "it") == {
        "a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 2}, "c": {"x": 3, "y": 2}}


@given(st.text())
def test_any_text_is_yaml_or_a_paragraph(text: str) -> None:
    try:
        parse_yaml(text, "it")
    except InputError as error:
        assert str(error).startswith("it is not valid YAML")


REQUIRED = {"temperature": 0, "max_tokens": 8, "base_urls": ["http://h/v1"], "layers": 2, "model": {"name": "x"},
            "path": "x", "run": "x", "use": "x.py:X", "title": "x", "dataset": "x", "name": "x",
            "sources": [{"kind": "csv", "path": "x"}],
            "student": {"model": {"name": "x"}}, "backbone": {"name": "x"}, "data": {"path": "x"}}


@pytest.mark.parametrize("number", [float("inf"), float("nan"), "inf", "nan", "1e999", 1e-320, "1e-320", 1e300, 2**64,
                                    -2**64, int("9" * 4000)], ids=lambda number: str(number)[:8])
def test_no_number_of_the_schema_can_be_infinite_or_beyond_reckoning(number: Any) -> None:
    tried = 0
    for model in {model for kind in KINDS.values() for model in parts(kind)}:
        fields: dict[str, Any] = model.model_fields  # type: ignore[attr-defined]
        needed = {name: REQUIRED[name] if name in REQUIRED else typing.get_args(field.annotation)[0]
                  for name, field in fields.items() if field.is_required()}
        for name, field in fields.items():
            if leaves(field.annotation) & {int, float}:
                kind = typing.get_origin(field.annotation)
                value = {"x": number} if kind is dict else [number] if kind is list else number
                with pytest.raises(ValidationError) as caught:
                    model.model_validate({**needed, name: value})  # type: ignore[attr-defined]
                assert "missing" not in {one["type"] for one in caught.value.errors()}
                tried += 1
    assert tried > 60


def parts(kind: type) -> Iterator[type]:
    yield kind
    for field in kind.model_fields.values():  # type: ignore[attr-defined]
        for model in models_of(field.annotation):
            yield from parts(model)


@pytest.mark.parametrize("change", [
    {"seed": -1}, {"seed": 2**32}, {"evaluate": {"seeds": [2**40]}}, {"corpus": {
        **MINIMAL["corpus"], "weights": {"a": 1e-7}}}, {"prompts": {"knowdist": {"weights": {"analyze": 1e-10}}}}])
def test_seeds_and_weights_that_libraries_cannot_take_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot be used"):
        validate({**MINIMAL, **change}, "it")


def odd_files(folder: Path) -> dict[str, Path]:
    """Things that can be opened and are no files."""
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to(folder / "loop")
    socket.socket(socket.AF_UNIX).bind(str(folder / "socket"))
    return {"pipe": folder / "fifo", "folder": folder / "folder", "device": Path("/dev/zero"),
            "socket": folder / "socket", "looked at": folder / "loop", "NUL": folder / "a\0b",
            "long": folder / ("x" * 300), "no file": folder / "nothing"}


def test_what_is_no_file_is_refused_wherever_a_file_is_read(tmp_path: Path) -> None:
    for what, path in odd_files(tmp_path).items():
        for read in (regular_file, read_json, read_yaml, lambda path: list(lines_of(path, "Name a file."))):
            with pytest.raises(InputError, match=rf"{what}|file .*{path.name[:1]}"):
                read(path)  # type: ignore[operator]


def test_a_file_without_end_is_not_read_to_it(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(1 << 40)  # a terabyte of zeros that takes no room
    for read in (read_json, read_yaml, lambda path: list(lines_of(path, "Name a file."))):
        with pytest.raises(InputError, match=r"larger|longer"):
            read(tmp_path / "huge")  # type: ignore[operator]


def test_a_json_number_of_thousands_of_digits_is_a_paragraph(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" + "9" * 5000 + "]")
    with pytest.raises(InputError, match="thousands of digits"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("name", ["n" * 300, "folder/" + "n" * 300, "n/" * 3000])
def test_a_name_that_is_too_long_for_a_file_is_one_of_nothing_there(name: str, tmp_path: Path) -> None:
    from distill.models import resolve_model
    from distill.models.tokenizer import tokenizer_folder
    from distill.training.cluster import cluster_of
    from flows.run import find_config

    for means in ("folder", "file"):
        assert not PathMark(means).means_path(name, tmp_path / name)  # type: ignore[arg-type]
    for ask in (find_config, cluster_of):
        with pytest.raises(InputError, match=r"no (config file|such accelerate)"):
            ask(name)
    for resolve in (resolve_model, tokenizer_folder):
        with pytest.raises(InputError):
            resolve(f"./{name}")
