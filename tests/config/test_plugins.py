"""Code of a user's own is found from the config's folder, said clearly where it is not, and part of what work is."""

from pathlib import Path

import pytest

from distill.config.load import load_config
from distill.config.sections.base import Section, semantic_fields
from distill.config.sections.plugin import Plugin
from distill.errors import InputError
from distill.plugins import load


class Holder(Section):
    """A config with a plugin in it."""

    plugins: list[Plugin]


def write(folder: Path, code: str, use: str = "mine.py:Mine") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(code)
    (folder / "config.yaml").write_text(f"plugins: [{{use: '{use}', options: {{least: 3}}}}]\n")
    return folder / "config.yaml"


def test_code_is_found_from_the_configs_folder_and_may_import_what_is_beside_it(tmp_path, monkeypatch):
    config = write(tmp_path / "a", "from dataclasses import dataclass\nfrom beside import ONE\n\n"
                                   "@dataclass\nclass Mine:\n    least: int\n    one: int = ONE\n")
    (tmp_path / "a" / "beside.py").write_text("ONE = 1\n")
    monkeypatch.chdir(tmp_path)
    plugin = load_config(config, kind=Holder).plugins[0]
    assert plugin.use == f"{tmp_path}/a/mine.py:Mine"
    made = plugin.load()(**plugin.options)
    assert (made.least, made.one) == (3, 1)
    assert plugin.load() is type(made)  # loaded once


def test_changed_code_is_changed_work_and_another_place_is_not(tmp_path):
    there = [semantic_fields(load_config(write(tmp_path / name, code), kind=Holder))
             for name, code in (("a", "Mine = 1\n"), ("b", "Mine = 1\n"), ("c", "Mine = 2\n"))]
    assert there[0] == there[1] != there[2]


def test_a_module_that_is_installed_can_be_named(tmp_path):
    plugin = load_config(write(tmp_path, "", "collections:OrderedDict.fromkeys"), kind=Holder).plugins[0]
    assert plugin.use == "collections:OrderedDict.fromkeys"
    assert list(plugin.load()("ab")) == ["a", "b"]
    assert len(semantic_fields(plugin)["code"]) == 16


@pytest.mark.parametrize(("reference", "said"), [
    ("mine.py", "names no code"), ("mine.py:", "names no code"), (":Mine", "names no code"),
    ("gone.py:Mine", "cannot be read"), ("mine.py:Other", "has no 'Other'"),
    ("broken.py:Mine", "ZeroDivisionError"), ("no_such_module:Mine", "ModuleNotFoundError"), ("dir.py:Mine", "read"),
    ("\0.py:Mine", "cannot be read")])
def test_code_that_cannot_be_used_is_said_in_one_paragraph(tmp_path, reference, said):
    (tmp_path / "mine.py").write_text("Mine = 1\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "dir.py").mkdir()
    with pytest.raises(InputError, match=said) as caught:
        load(f"{tmp_path}/{reference}" if reference[0] not in ":n" else reference)
    assert "\n" not in str(caught.value)
