"""`released` reads and scores as the authors do: against values that their own code gave for distorted answers."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.schema import TransformersEngine
from distill.engines.base import LabelScores
from distill.run.storage import read_json
from sentibench.answering import Method
from sentibench.cli import main
from sentibench.data import load_split
from sentibench.metrics import VALUES
from sentibench.registry import get_task
from sentibench.released import answer_of, read_tuples
from sentibench.runner import plan, run_jobs
from sentibench.scoring import read_answer, score_answers
from tests.sentibench.test_runner import HashEngine

DATA = "shipped:data/sentibench"
VALUES_OF_THEIRS = read_json(Path(__file__).parent / "authors_scores.json")


@pytest.mark.parametrize("name", ["atsa", "acsa", "asqp", "ssa"])
def test_released_reads_and_scores_every_answer_as_the_authors_scorer_does(name: str) -> None:
    task, theirs = get_task(name), VALUES_OF_THEIRS["tasks"][name]
    items = load_split(task, DATA, "test")
    scored_by_them = []
    for number, answer, expected in theirs["cases"]:
        read = read_answer(task, answer, items[number].sentence, "released")
        found = score_answers(task, [items[number]], [read]).statistics[0]
        if expected is None:  # their script ends with an error: here the answer has no tuples
            assert read.value is None and found[1] == 0, answer
            continue
        scored_by_them.append((items[number], read))
        if name == "ssa":
            assert found[1] == expected[0], answer
            shares = [found[0] / found[1] if found[1] else 0, found[2] / found[3] if found[3] else 0]
            assert shares == pytest.approx(expected[1:], abs=1e-6), answer
        else:
            assert [found[1], found[0], found[2]] == expected, answer
    whole = score_answers(task, *map(list, zip(*scored_by_them, strict=True)))
    assert whole.score == pytest.approx(theirs["f1"], abs=1e-9)
    assert VALUES[task.metric](whole.statistics.sum(axis=0)) == pytest.approx(theirs["f1"], abs=1e-9)


@pytest.mark.parametrize(("generated", "expected"), VALUES_OF_THEIRS["extracted"])
def test_released_takes_what_the_authors_script_takes_of_a_generation(generated: str, expected: str) -> None:
    assert answer_of(generated) == expected


def test_where_their_order_depends_on_a_hash_seed_the_order_of_the_answer_is_taken() -> None:
    pairs = [f"('food quality', 'p{number}')" for number in (4, 2, 4, 9, 1, 7)]
    read = read_tuples("acsa", f"[{', '.join(pairs)}, ('fo", "The food.")
    assert read.tuples == (("food quality", "p4"), ("food quality", "p2"), ("food quality", "p9"))


def test_the_two_readings_differ_where_an_answer_is_malformed() -> None:
    task, sentence = get_task("atsa"), "The food and the staff."
    loop = "[" + "('food', 'positive'), " * 9 + "('staff', 'pos"
    assert read_answer(task, loop, sentence, "released").value is None
    assert len(read_answer(task, loop, sentence, "paper").value) == 9
    prose = "[('food', 'positive')] because it was good"
    assert [read_answer(task, prose, sentence, reading).value for reading in ("released", "paper")] == [
        None, (("food", "positive"),)]


def test_the_decoder_of_the_authors_takes_blanks_before_punctuation_away() -> None:
    text = " [('is n't good', 'negative') , ('a', 'b')] .\n"
    assert answer_of(text, cleaned=True) == "[('isn't good', 'negative'), ('a', 'b')]."
    assert answer_of(text) == text.strip()


def test_labels_are_scored_as_their_generate_scores_them(tiny_model: Path, tmp_path: Path) -> None:
    """Their label scores are those of `generate`, which has applied the penalty of the model's folder before."""
    from distill.engines import open_engine
    from distill.engines.base import Request, Sampling
    from distill.engines.transformers.penalty import shipped_penalty
    from distill.models import load_model, load_tokenizer

    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "generation_config.json").write_text('{"repetition_penalty": 1.7, "do_sample": true, "top_p": 0.5}')
    assert shipped_penalty(folder) == 1.7 and shipped_penalty(tiny_model) == 1.0
    prompts = ["The food was good, joy and joy.\nLabel:", "Anger and sadness: a sad story of optimism.\nLabel:"]
    labels = [" anger", " joy", " sadness", " optimism"]
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    firsts = [tokenizer(label, add_special_tokens=False)["input_ids"][0] for label in labels]
    sampling = Sampling(max_tokens=8, repetition_penalty=1.7)
    with open_engine(TransformersEngine(dtype="float32"), folder) as engine:
        found = engine.score_labels([Request(p, p, sampling, first_tokens=True) for p in prompts], [labels] * 2)
        plain = engine.score_labels([Request(p, p) for p in prompts], [labels] * 2)
        tied = engine.score_labels([Request(p, p, sampling, first_tokens=True) for p in prompts],
                                   [[" joy of", " joy to", " anger"]] * 2)
        written = engine.generate([Request(p, p, sampling) for p in prompts])
    for prompt, one, bare, same, output in zip(prompts, found, plain, tied, written, strict=True):
        ids = tokenizer(prompt, return_tensors="pt")
        theirs = model.generate(**ids, max_new_tokens=8, do_sample=False, output_scores=True, eos_token_id=None,
                                return_dict_in_generate=True)
        expected = theirs.scores[0][0].log_softmax(-1)[firsts].tolist()
        assert one.first_tokens == pytest.approx(expected, abs=1e-4)
        assert one.scores == pytest.approx(bare.scores) and bare.first_tokens == ()
        assert max(abs(a - b) for a, b in zip(one.first_tokens, one.scores, strict=True)) > 1e-3
        assert same.rule == "full_likelihood" and same.first_tokens[0] == same.first_tokens[1] != same.first_tokens[2]
        new = theirs.sequences[0, ids["input_ids"].shape[1]:]
        assert tokenizer.decode(new, skip_special_tokens=True).startswith(output.text)


def test_every_result_says_how_its_answers_were_read_and_holds_the_other_score(tmp_path: Path, capsys: Any) -> None:
    class Writes(HashEngine):
        def score_labels(self, requests, labels, done):
            done([LabelScores(r.id, (-1.0, -2.0), 1, "first_token", first_tokens=(-2.0, -1.0)) for r in requests])

    prose = " [('NULL', 'positive')] and more"
    for reading in ("released", "paper"):
        engine = Writes(prose)
        out = tmp_path / reading
        method = Method(reading=reading, penalty=1.1)
        jobs = plan("sst2,atsa", DATA, "released", [42], 4, "m", {"kind": "hash"}, out, method)
        if reading == "paper":
            shutil.copytree(tmp_path / "released" / "answers", out / "answers")
        run_jobs(engine, "student", jobs)
        assert len(engine.asked) == (4 if reading == "released" else 0)  # another reading asks nothing again
    results = {reading: {name: read_json(tmp_path / reading / f"{name}.seed42.json") for name in ("sst2", "atsa")}
               for reading in ("released", "paper")}
    for name in ("sst2", "atsa"):
        one, other = results["released"][name], results["paper"][name]
        assert (one["reading"], other["reading"]) == ("released", "paper")
        assert one["value"] == other["other_reading"]["value"] and other["value"] == one["other_reading"]["value"]
        assert [row["prediction"] for row in one["predictions"]] != [row["prediction"] for row in other["predictions"]]
    assert results["released"]["atsa"]["n_invalid"] == 4 and results["paper"]["atsa"]["n_invalid"] == 0
    folders = [str(tmp_path / reading) for reading in ("released", "paper")]
    assert main(["compare", *folders]) == 2 and "read in different ways" in capsys.readouterr().err
    assert main(["compare", *folders, "--reading", "paper"]) == 0
    assert "read as paper" in capsys.readouterr().out
    assert main(["compare", folders[0], "--reading", "both"]) == 0
    assert "released (paper)" in capsys.readouterr().out


@given(st.sampled_from(["atsa", "acsa", "asqp", "ssa"]), st.lists(st.sampled_from(
    [*"[](){},'\"\\ ab\n0-", "None", "('a', 'positive')", "('a', 'b', 'c', 'positive')", "b'x'", "...", "1e999"])))
def test_no_answer_is_an_error_of_the_released_reading(kind: str, pieces: list[str]) -> None:
    read = read_tuples(kind, "".join(pieces), "a b")
    assert all(isinstance(part, str) for one in read.tuples for part in one)
    assert read.valid or not read.tuples


@pytest.mark.parametrize("answer", ["[" * 50_000, "-" * 90_000 + "1", "(" * 99 + ")" * 99, "1+" * 40_000 + "1",
                                    "9" * 90_000, "[('a', 'b'), " * 7_000])
def test_huge_answers_do_not_end_the_process(answer: str) -> None:
    for kind in ("atsa", "acsa", "asqp", "ssa"):
        read_tuples(kind, answer, "a")
