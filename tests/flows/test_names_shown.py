"""Names of models, runs and classes in pictures, tables and files: taken literally, whatever they hold."""

import csv
import io
import re
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import InputError, RunError
from distill.run.storage import read_json, write_json, write_text
from flows.report.encoder.pictures import confusion, embeddings
from sentibench.compare import load, versus
from sentibench.pictures import scores, shown
from sentibench.tables import comma_separated, escape_latex, latex, markdown
from tests.support.result import answers, write

ODD = ["$x^{$", "$\\frac$ $", "_hidden", "=cmd|' /C calc'!A0", "a\\b{c}~d^e_f&g%h#i", "é 中文 🙂", "a\nb|c", "<b>",
       "\ud800", "\x1b[31m"]


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_drawn_as_it_is(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a label that a legend leaves out
        warnings.filterwarnings("ignore", message="Glyph")
        tasks = [{"task": name, "scores": {name: {"value": 0.5, "interval_95": [0.4, 0.6]}}}]
        picture = scores(tasks, [name])
    text = re.sub(r"&#?\w+;", "", picture)
    plain = re.findall(r"[a-z]{3,}", name)
    assert all(word in text for word in plain)


def test_classes_with_dollars_are_reported() -> None:
    names = ["$a_$b$", "_$"]
    assert "<svg" in confusion([{"confusion": [[3, 1], [1, 3]]}], names)
    assert "<svg" in embeddings([("$t_{$", [[0.0, 1.0], [1.0, 0.0]])] * 2, [0, 1], names)


@pytest.mark.parametrize("name", [name for name in ODD if "\ud800" not in name])
def test_no_name_is_a_formula_or_a_command_in_what_is_exported(name: str, tmp_path: Path) -> None:
    for folder, right in (("a", 0.5), ("b", 0.9)):
        write(tmp_path / folder, "sst2", answers(right, 1))
    models = [load(tmp_path / "a", name), load(tmp_path / "b", "other")]
    found = [versus(*models)]
    for row in csv.DictReader(io.StringIO(comma_separated(models, found))):
        assert not row["model"].startswith(("=", "+", "-", "@"))
    typeset = latex(models, found)
    cells = {line.count("&") - line.count("\\&") for line in typeset.splitlines()
             if line.endswith("\\\\") and "multicolumn" not in line}
    assert len(cells) == 1
    lines = [line for line in markdown(models, found).splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


@given(st.text())
def test_latex_holds_no_character_that_it_would_obey(text: str) -> None:
    left = re.sub(r"\\text\w+\{\}|\\[&%_#${}]|\$(?:-|\^\{\*\}|\^\{\\dagger\}|\\pm)\$", "", escape_latex(text))
    assert not re.search(r"[\\{}~^&%_#$\n\r]", left)


@given(st.text())
def test_a_shown_name_can_be_written_and_is_in_every_legend(name: str) -> None:
    drawn = shown(name)
    drawn.encode()
    assert not drawn.startswith("_") and "\n" not in drawn


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_no_text_can_keep_work_from_being_written_down(text: str) -> None:
    folder = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")
    path = folder / "sentidistill-test-names.json"
    write_json(path, {"name": text})
    assert read_json(path) == {"name": text}
    write_text(path, text)
    path.unlink()
    for kind in (InputError, RunError):
        str(kind(text)).encode()  # as a flow run's state, a webhook, a terminal need it
