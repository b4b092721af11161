"""Weights and draws: what is asked comes in the shares that were asked for, and in no other way than by the seed."""

import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.load import load_config
from distill.config.schema import IclDist, KnowDist
from distill.errors import InputError
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.icldist import icldist_candidates
from distill.prompting.knowdist import knowdist_candidates
from distill.prompting.sampling import PromptRng, SystematicSampler
from distill.run.records import Prompt
from tests.prompting.test_prompting import make_texts

N = 4000
CI = Path(__file__).parents[2] / "flows/configs/ci.yaml"
WEIGHTS = st.floats(0, 100).map(lambda weight: round(weight, 2))


def assert_shares(counts: Counter[str], expected: dict[str, float]) -> None:
    """Every share is within 5 standard deviations of what is expected, and nothing else was drawn."""
    total = counts.total()
    assert set(counts) == {name for name, share in expected.items() if share}
    for name, share in expected.items():
        assert abs(counts[name] - total * share) <= 5 * math.sqrt(total * share * (1 - share)), (name, counts)


def shares(weights: dict[str, float]) -> dict[str, float]:
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def knowdist_kinds(n: int = N, **config) -> Counter[str]:
    return Counter(one.kind for one in knowdist_candidates(make_texts(n), KnowDist.model_validate(config), 42))


def icldist_kinds(n: int = N, **config) -> Counter[str]:
    settings = IclDist.model_validate(config)
    pool = load_demonstrations(settings)
    return Counter(one.kind for one in icldist_candidates(make_texts(n), pool, settings, 42))


# ---------------------------------------------------------------- KnowDist


def test_a_method_and_a_perspective_are_asked_for_in_the_product_of_their_weights():
    methods = {"analyze": 2, "rewrite": 1}
    perspectives = {"target": 1, "expression": 3, "emotion": 0.5, "background": 1}
    product = {f"{method}/{name}": methods[method] * perspectives[name] for method in methods for name in perspectives}
    for asked in (1, 2):
        kinds = knowdist_kinds(prompts_per_text=asked, weights=methods | perspectives)
        assert kinds.total() == asked * N
        assert_shares(kinds, shares(product))


def test_a_perspective_of_weight_0_is_never_asked_and_the_methods_stay_balanced():
    candidates = list(knowdist_candidates(make_texts(N), KnowDist.model_validate({"weights": {"emotion": 0}}), 42))
    assert_shares(Counter(candidate.perspective for candidate in candidates), dict.fromkeys(("target", "expression",
                                                                                 "background"), 1 / 3))
    for first, second in zip(candidates[::2], candidates[1::2], strict=True):
        assert first.text_id == second.text_id and {first.strategy, second.strategy} == {"analyze", "rewrite"}


def test_a_weight_too_large_for_one_prompt_a_text_gets_one_and_the_others_share_the_rest():
    kinds = knowdist_kinds(prompts_per_text=3, rewrite=False, weights={"target": 100, "emotion": 2})
    assert kinds["analyze/target"] == N
    assert_shares(kinds - Counter({"analyze/target": N}),
                  {"analyze/emotion": 0.5, "analyze/expression": 0.25, "analyze/background": 0.25})


def test_no_text_gets_the_same_prompt_twice_whatever_the_weights():
    for asked in range(1, 9):
        candidates = list(knowdist_candidates(make_texts(50), KnowDist.model_validate(
            {"prompts_per_text": asked, "weights": {"analyze": 3, "emotion": 0.1, "target": 0}}), 42))
        assert len({(one.text_id, one.kind) for one in candidates}) == len(candidates) == 50 * min(asked, 6)


def test_basic_prompts_keep_the_weights_of_the_methods():
    kinds = knowdist_kinds(prompts_per_text=1, multi_perspective=False, weights={"rewrite": 3})
    assert_shares(kinds, {"analyze/basic": 0.25, "rewrite/basic": 0.75})


# ---------------------------------------------------------------- ICLDist


def test_tasks_come_by_their_weights_and_strategies_by_the_weights_of_those_a_task_has():
    weights = {"sentiment": 3, "emotion": 1, "basic": 1, "lw": 2, "lt": 5, "mi": 1}
    expected = {"sentiment/basic": 0.75 / 4, "sentiment/lw": 0.75 / 2, "sentiment/mi": 0.75 / 4,
                "emotion/basic": 0.25 / 7, "emotion/lt": 0.25 * 5 / 7, "emotion/mi": 0.25 / 7}
    assert_shares(icldist_kinds(weights=weights), expected)
    assert_shares(icldist_kinds(n=1500, prompts_per_text=2, label_taxonomies=False, weights=weights), {
        **{kind: share for kind, share in expected.items() if kind.startswith("sentiment")},
        "emotion/basic": 0.125, "emotion/mi": 0.125})


def test_strategies_and_tasks_of_weight_0_are_never_asked():
    assert set(icldist_kinds(n=200, weights={"emotion": 0, "basic": 0})) == {"sentiment/lw", "sentiment/mi"}
    config = IclDist.model_validate({"weights": {"lw": 0, "lt": 0}})
    candidates = list(icldist_candidates(make_texts(200), load_demonstrations(config), config, 42))
    assert {candidate.strategy for candidate in candidates} == {"basic", "mi"}
    assert {candidate.labels[0] for candidate in candidates if candidate.strategy == "mi"} == {"positive", "happiness"}


def test_the_first_prompt_of_a_text_is_the_same_however_many_it_gets():
    pool, texts = load_demonstrations(IclDist()), make_texts(100)
    for asked in (2, 5):
        config = IclDist.model_validate({"prompts_per_text": asked, "weights": {"mi": 2}})
        once = IclDist.model_validate({"weights": {"mi": 2}})
        first = list(icldist_candidates(texts, pool, config, 42))[::asked]
        assert first == list(icldist_candidates(texts, pool, once, 42))


# ---------------------------------------------------------------- what a record says


def test_a_prompt_names_its_perspective_and_strategy():
    texts, pool = make_texts(60), load_demonstrations(IclDist())
    for candidate in [*knowdist_candidates(texts, KnowDist(), 1), *icldist_candidates(texts, pool, IclDist(), 1)]:
        prompt: Prompt = candidate.render()
        if prompt.family == "knowdist":
            assert prompt.kind == f"{prompt.strategy}/{prompt.perspective}"
        else:
            assert prompt.perspective == "" and prompt.kind.split("/")[1] == prompt.strategy
        assert 0 <= prompt.seed < 2**31
    (basic,) = knowdist_candidates(texts[:1], KnowDist(multi_perspective=False, rewrite=False), 1)
    assert (basic.perspective, basic.strategy) == ("basic", "analyze")


# ---------------------------------------------------------------- the draws themselves


@given(st.dictionaries(st.sampled_from("ab"), st.dictionaries(st.sampled_from("wxyz"), WEIGHTS, min_size=1),
                       min_size=1), st.integers(1, 9), st.booleans(), st.integers())
def test_every_draw_has_its_size_and_no_item_or_group_strays_a_whole_draw_from_its_share(groups, count, once, seed):
    weights = {(group, item): weight for group, items in groups.items() for item, weight in items.items() if weight}
    if not weights:
        return
    drawn = SystematicSampler(groups, count, once).draw(PromptRng(seed, "id", "test"))
    assert set(drawn) <= set(weights)
    assert len(drawn) == (min(count, len(weights)) if once else count)
    if once:
        assert len(set(drawn)) == len(drawn)
        return
    total = sum(weights.values())
    for group in groups:
        share = count * sum(weight for key, weight in weights.items() if key[0] == group) / total
        assert abs(sum(key[0] == group for key in drawn) - share) < 1 + 1e-9


def test_draws_depend_on_their_three_arguments_and_on_nothing_else():
    def some(*key) -> list[int]:
        draws = PromptRng(*key)
        return [draws.word() for _ in range(50)]

    keys = [(1, "a", "x"), (2, "a", "x"), (1, "b", "x"), (1, "a", "y")]
    assert len({tuple(some(*key)) for key in keys}) == 4
    assert some(1, "a", "x") == some(1, "a", "x")
    assert len(set(some(1, "a", "x"))) == 50


def test_numbers_and_orders_are_drawn_uniformly():
    draws = PromptRng(7, "a", "x")
    assert_shares(Counter(draws.below(6) for _ in range(N)), dict.fromkeys(range(6), 1 / 6))
    orders = Counter(tuple(draws.shuffled([1, 2, 3])) for _ in range(N))
    assert len(orders) == 6
    assert_shares(orders, dict.fromkeys(orders, 1 / 6))


# ---------------------------------------------------------------- the config


@pytest.mark.parametrize(("override", "message"), [
    ("knowdist.weights.emotoin=2", r"emotoin.*emotion"),
    ("icldist.weights.lv=2", r"lv.*l[wt]"),
    ("knowdist.weights.emotion=-1", "greater than or equal to 0"),
    ("knowdist.weights.emotion=.inf", "finite"),
    ("knowdist.weights={analyze: 0, rewrite: 0}", "every method that is on has weight 0"),
    ("knowdist={rewrite: false, weights: {analyze: 0}}", "every method that is on has weight 0"),
    ("knowdist.weights={target: 0, expression: 0, emotion: 0, background: 0}", "every perspective has weight 0"),
    ("icldist.weights={sentiment: 0, emotion: 0}", "every task has weight 0"),
    ("icldist={label_words: false, weights: {basic: 0, mi: 0}}", "task sentiment is off or has weight 0"),
])
def test_weights_that_cannot_be_are_refused_with_what_to_do(override, message):
    with pytest.raises(InputError, match=message):
        load_config(CI, [f"prompts.{override}"])
