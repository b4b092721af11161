"""``distill prompts --show``: everything that is known of a prompt, and the prompt as it is."""

import io

import pytest
from rich.console import Console

from distill.config.schema import IclDist, KnowDist
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.icldist import icldist_candidates
from distill.prompting.knowdist import knowdist_candidates
from distill.run.records import Prompt, Text
from flows.cli.main import main
from flows.cli.prompt_samples import print_samples
from tests.prompting.test_prompting import HOSTILE, make_texts


def printed(*prompts: Prompt, width: int = 200) -> str:
    stream = io.StringIO()
    print_samples(prompts, Console(file=stream, width=width, color_system=None))
    return stream.getvalue()


def test_a_sample_says_all_that_is_known_of_a_prompt():
    first = next(knowdist_candidates(make_texts(1), KnowDist(), 1)).render()
    second = next(icldist_candidates(make_texts(1), load_demonstrations(IclDist()), IclDist(), 1)).render()
    shown = printed(first, second)
    for prompt in (first, second):
        assert f"{prompt.family} {prompt.kind}" in shown
        for said in (f"id={prompt.id}", f"text={prompt.text_id}", f"seed={prompt.seed}", f"strategy={prompt.strategy}"):
            assert said in shown
    assert f"perspective={first.perspective}" in shown
    assert f"demonstrations={second.n_demonstrations}" in shown and f"labels={', '.join(second.labels)}" in shown


def test_nothing_in_a_prompt_is_markup_and_nothing_steers_the_terminal():
    text = f"[bold]not bold[/bold] [link=x]y[/link] {HOSTILE} :smile: \x1b[31mred\x07"
    (prompt, *_) = knowdist_candidates([Text("t", text, "film", "test")], KnowDist(), 1)
    shown = printed(prompt.render(), width=400)
    assert text[:-len("\x1b[31mred\x07")] in shown
    assert r"\x1b[31mred\x07" in shown and "\x1b" not in shown and "\x07" not in shown


def test_a_negative_number_of_samples_is_refused_before_anything_is_built(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["prompts", "ci", "--show", "-1"])
    assert ended.value.code == 2 and "--show is -1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
