"""Comparing results: differences are paired, honest about chance, and refused where they would mean nothing."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest

from distill.errors import InputError
from sentibench.cli import main
from sentibench.compare import load, paper_rows, versus
from sentibench.paper import tables
from sentibench.tables import comma_separated, latex, markdown
from tests.support.result import answers, write


def test_the_same_answers_differ_by_nothing(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, "sst2", answers(0.8, 1))
    found = versus(load(tmp_path / "a"), load(tmp_path / "b")).by_column["sst2"]
    assert (found.value, found.interval, found.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_a_clear_gain_is_told_from_a_chance_one(tmp_path: Path) -> None:
    for name, right in (("base", 0.5), ("better", 0.95)):
        for seed in (42, 52):
            write(tmp_path / name, "sst2", answers(right, seed), seed)
    base, better = load(tmp_path / "base"), load(tmp_path / "better")
    found = versus(base, better).by_column["sst2"]
    assert found.value == pytest.approx(better.cells["sst2"] - base.cells["sst2"])
    assert 0 < found.interval[0] < found.value < found.interval[1] and found.p_value < 0.01
    back = versus(better, base).by_column["sst2"]
    assert back.interval == pytest.approx(tuple(-end for end in reversed(found.interval)), abs=1e-9)


def test_intervals_cover_a_true_difference_of_nothing_about_as_often_as_they_say(tmp_path: Path) -> None:
    outside = 0
    for trial in range(60):
        for name, seed in (("a", 1000 + trial), ("b", 5000 + trial)):
            write(tmp_path / f"{name}{trial}", "sst2", answers(0.7, seed))
        found = versus(load(tmp_path / f"a{trial}"), load(tmp_path / f"b{trial}"), 300).by_column["sst2"]
        outside += found.interval[0] > 0 or found.interval[1] < 0
    assert outside <= 9  # 3 expected; 9 or fewer with a probability of 0.999


def test_a_group_is_compared_on_the_same_tasks_only(tmp_path: Path) -> None:
    for name, right in (("a", 0.6), ("b", 0.9)):
        write(tmp_path / name, "sst2", answers(right, 1))
        write(tmp_path / name, "imdb", answers(right, 2))
    both = versus(load(tmp_path / "a"), load(tmp_path / "b")).by_column
    assert both["BSA"].value == pytest.approx((both["sst2"].value + both["imdb"].value) / 2)
    assert "FSA" not in both
    seen = versus(load(tmp_path / "a"), load(tmp_path / "b"), seen=["imdb"]).by_column
    assert (seen["seen"].value, seen["unseen"].value) == (both["imdb"].value, both["sst2"].value)
    assert both["seen"].value == both["BSA"].value, "by the paper, both are"
    write(tmp_path / "b", "yelp2", answers(0.9, 3))
    fewer = versus(load(tmp_path / "a"), load(tmp_path / "b")).by_column
    assert "BSA" not in fewer and fewer["sst2"] == both["sst2"]


@pytest.mark.parametrize(("change", "said"), [
    ({"prompts_sha256": "other"}, "not asked the same prompts"), ({"seed": 52}, "no seed in common")])
def test_what_cannot_be_paired_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    write(tmp_path / "a", "sst2", answers(0.6, 1))
    write(tmp_path / "b", "sst2", answers(0.6, 1), **change)
    with pytest.raises(InputError, match=said):
        versus(load(tmp_path / "a"), load(tmp_path / "b"))


def test_results_without_statistics_say_what_to_do(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, "sst2", answers(0.6, 1))
    path = tmp_path / "b" / "sst2.seed42.json"
    path.write_text(path.read_text().replace('"statistics"', '"other"'))
    with pytest.raises(InputError, match="Run the evaluation again"):
        versus(load(tmp_path / "a"), load(tmp_path / "b"))


def test_the_papers_rows_have_the_papers_averages() -> None:
    rows = {row.name: row.cells for row in paper_rows()}
    assert len(rows) == 19
    assert rows["Llama-3-1.2B + Know & ICLDist (paper)"]["all"] == pytest.approx(0.6077, abs=6e-5)
    assert rows["Llama-3-70B (paper)"]["all"] == pytest.approx(0.7278, abs=6e-5)


def test_every_form_of_the_table_shows_the_same_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, right in (("base_1", 0.5), ("best", 0.95)):
        write(tmp_path / name, "sst2", answers(right, 1))
    models = [load(tmp_path / name) for name in ("base_1", "best")]
    found = [versus(*models)]
    value = f"{100 * models[1].cells['sst2']:.2f}"
    lines = [line for line in markdown(models, found).splitlines() if line.startswith("|")]
    assert len(lines) == 5 and len({line.count("|") for line in lines}) == 1
    assert "† best was not run on imdb, yelp2" in markdown(models, found)
    assert value in lines[3] and "* [" in lines[4]
    typeset = latex([*paper_rows()[:1], *models], found)
    assert "base\\_1" in typeset and value in typeset
    cells = {line.count("&") for line in typeset.splitlines() if line.endswith("\\\\") and "multicolumn" not in line}
    assert cells == {18}
    rows = list(csv.DictReader(io.StringIO(comma_separated([*paper_rows()[:1], *models], found))))
    (best,) = [row for row in rows if row["model"] == "best" and row["column"] == "sst2"]
    assert float(best["f1"]) == models[1].cells["sst2"]
    assert float(best["difference_to_first"]) == found[0].by_column["sst2"].value
    assert main(["compare", str(tmp_path / "base_1"), str(tmp_path / "best"), "--with-paper"]) == 0
    shown = capsys.readouterr().out
    assert value in shown and "best − base_1" in shown and "Llama-3-70B (paper)" in shown


def test_every_row_of_the_papers_tables_stands_in_the_paper(shared_dir: Path) -> None:
    """Row by row in the order printed, up to the OCR's marks; what a row says it gains is its distance to the first."""
    (paper,) = (shared_dir / "seeds").glob("003_*")
    text = paper.read_text(encoding="utf-8")
    assert set(tables()) == {2, 3, 4, 5, 6, 7, 8, 22, 23, 24}
    for number, table in tables().items():
        before = text.partition(f"\nTable {number}: ")[0][-6000:]
        numbers = re.findall(r"(?<![\d.+-])\d+(?:\.\d+)?(?![\d.])", before)
        for name, values in table.rows.items():
            assert len(values) == len(table.columns), (number, name)
            for value in values:
                assert f"{value:.2f}" in numbers or str(value) in numbers, (number, name, value)


def test_a_table_of_the_paper_is_printed_and_others_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paper", "6"]) == 0
    assert "38.79" in capsys.readouterr().out
    assert main(["paper", "9"]) == 2
    assert "these do: 2, 3, 4" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["svg", "png", "pdf"])
def test_results_are_drawn_in_the_form_asked_for(tmp_path: Path, form: str) -> None:
    for name, right in (("one", 0.5), ("two", 0.95)):
        write(tmp_path / name, "sst2", answers(right, 1), interval_95=[0.4, 0.9])
    out = tmp_path / "pictures" / f"scores.{form}"
    assert main(["plot", str(tmp_path / "one"), str(tmp_path / "two"), "--out", str(out)]) == 0
    head = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[form]
    assert out.read_bytes().startswith(head)
    if form == "svg":
        assert all(word in out.read_text() for word in ("sst2", "one", "two"))


def test_a_picture_of_an_unknown_form_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "one", "sst2", answers(0.5, 1), interval_95=[0.4, 0.9])
    assert main(["plot", str(tmp_path / "one"), "--out", str(tmp_path / "scores.jpeg")]) == 2
    assert ".svg, .png or .pdf" in capsys.readouterr().err
