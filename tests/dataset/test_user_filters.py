"""A filter of the user's own: a class in a file beside the config, and nothing in the package."""

from pathlib import Path

import pytest

from distill.config.schema import Filters, Train
from distill.config.sections.plugin import Plugin
from distill.dataset.build import build_dataset
from distill.dataset.filters import FILTERS
from distill.dataset.inspect import Query, find
from distill.errors import InputError
from distill.run.records import Drop, read_records
from tests.support.filter import answer, fill, icldist, knowdist

SHORT = '''
class TooShort:
    reason = "too_short"

    def __init__(self, min_words):
        self.min_words = min_words

    def finding(self, prompt, response):
        words = len(response.output.split())
        if prompt.family == "knowdist" and words < self.min_words:
            return f"{words} words"
'''


def filters(folder: Path, code: str = SHORT, **options: object) -> Filters:
    (folder / "mine.py").write_text(code)
    return Filters(plugins=[Plugin(use=f"{folder / 'mine.py'}:TooShort", options=options or {"min_words": 5})])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    fill(run, "knowdist", [knowdist("k0"), knowdist("k1")], [
        answer("Nobody cared.", "k0"), answer("The author complains that nobody cared about the device.", "k1")])
    fill(run, "icldist", [icldist("i0")], [answer("neutral", "i0")])
    return run


def test_a_filter_of_ones_own_drops_under_its_reason_and_its_code_is_part_of_the_work(
        run: Path, tmp_path: Path, tiny_model: Path) -> None:
    outcome = build_dataset(filters(tmp_path), Train(), tiny_model, run, 42, {})
    assert [dict(counts.dropped) for counts in outcome.row_counts] == [{"too_short": 1}, {}]
    (drop,) = read_records(outcome.folder / "dropped.parquet", Drop)
    assert (drop.id, drop.reason, drop.detail) == ("k0", "too_short", "2 words")
    shown = find(run, filters(tmp_path), Query(rejected=True))
    assert shown.built and [(item.prompt.id, item.reason) for item in shown.sample] == [("k0", "too_short")]
    assert build_dataset(filters(tmp_path), Train(), tiny_model, run, 42, {}).reused
    with pytest.raises(InputError, match=r"filters\.plugins"):
        build_dataset(filters(tmp_path, SHORT.replace("<", "<=")), Train(), tiny_model, run, 42, {})
    with pytest.raises(InputError, match=r"filters\.plugins"):
        build_dataset(filters(tmp_path, min_words=9), Train(), tiny_model, run, 42, {})


def test_before_the_rows_are_built_show_asks_it_too(run: Path, tmp_path: Path) -> None:
    found = find(run, filters(tmp_path), Query(rejected=True))
    assert not found.built and found.reasons == {"too_short": 1}


@pytest.mark.parametrize(("code", "options", "said"), [
    (SHORT, {"fewest": 5}, "cannot be made with the options .*fewest"),
    (SHORT.replace("if prompt", "1 / 0\n        if prompt"), {"min_words": 5}, "prompt k0 .*ZeroDivisionError"),
    (SHORT.replace('return f"{words} words"', "return True"), {"min_words": 5}, "returned True for .* k0"),
    (SHORT.replace('"too_short"', '"too short"'), {"min_words": 5}, "reason 'too short'"),
    (SHORT.replace("def finding", "def look"), {"min_words": 5}, "no method 'finding'"),
    ("TooShort = 3", {}, "cannot be made with .*TypeError")])
def test_a_filter_that_fails_or_says_nonsense_is_named_in_one_paragraph(
        run: Path, tmp_path: Path, code: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        find(run, filters(tmp_path, code, **options), Query(rejected=True))
    assert "mine.py:TooShort" in str(caught.value) and "\n" not in str(caught.value)


def test_every_filter_that_ships_has_settings_of_its_name() -> None:
    keys = {key for key, _ in FILTERS}
    others = {"all", "agreement", "plugins"}  # agreement looks at all answers at once
    assert keys == Filters.model_fields.keys() - others
