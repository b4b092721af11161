"""Batches, shared prefixes, packed weights, attention without copies: they say what the plain ways say."""

import copy
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from distill.engines.base import Sampling
from distill.engines.first_line import first_line_end
from distill.engines.transformers.acceleration.attention import NAME, use_grouped
from distill.engines.transformers.acceleration.packing import PackedLinear, pack
from distill.engines.transformers.decoding import decode
from distill.engines.transformers.forward import (
    Prefix,
    can_share,
    common_prefix,
    ending_logits,
    last_logits,
    shared_prefix,
)
from distill.engines.transformers.rows import Row
from distill.models import load_model, load_tokenizer
from sentibench.parsing import first_line

TOKENS = st.lists(st.integers(100, 40_000), min_size=1, max_size=24)


@pytest.fixture(scope="module")
def model() -> Any:
    """Two query heads for each key head, and biases, which the tiny model that ships has not."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(1)
    model = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=50_000, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True)).eval()
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, mean=float(name.endswith("norm.weight")), std=0.3)
    return model


@pytest.fixture(scope="module")
def fast(model: Any) -> Any:
    """The same model as engines use it on CPU."""
    model = copy.deepcopy(model)
    use_grouped(model)
    assert pack(model) and can_share(model)
    return model


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model)


def _rows(prompts: list[list[int]], temperature: float = 0.0) -> list[Row]:
    return [Row(prompt, Sampling(temperature=temperature, top_p=0.9, max_tokens=3 + index % 5), index, index)
            for index, prompt in enumerate(prompts)]


@settings(max_examples=40, deadline=None)
@given(st.lists(TOKENS, min_size=1, max_size=6), TOKENS, st.sampled_from([0.0, 0.02]), st.booleans())
def test_rows_together_get_the_tokens_that_each_row_gets_alone(
        model: Any, fast: Any, tokenizer: Any, prompts: list[list[int]], beginning: list[int], temperature: float,
        share: bool) -> None:
    """A random model's likeliest tokens are nearly equal, so rows that draw do it at a temperature that parts them."""
    asked = [[*beginning, *prompt] for prompt in prompts]
    alone, together = _rows(asked, temperature), _rows(asked, temperature)
    for row in alone:
        decode(model, tokenizer, [row], [2], lambda _: None)
    left: list[int] = []
    with torch.inference_mode():
        prefix = Prefix(fast, beginning) if share else None
        for part in (together[:4], together[4:]):  # the prefix serves several batches
            if part:
                decode(fast, tokenizer, part, [2], lambda row: left.append(row.index), prefix)
    assert [(row.tokens, row.reason) for row in together] == [(row.tokens, row.reason) for row in alone]
    assert sorted(left) == list(range(len(prompts)))


@settings(max_examples=40, deadline=None)
@given(st.lists(TOKENS, min_size=1, max_size=5), st.integers(0, 3))
def test_logits_of_a_batch_are_those_of_each_sequence(model: Any, fast: Any, prompts: list[list[int]],
                                                      shared: int) -> None:
    whole = [[*range(500, 500 + shared), *prompt] for prompt in prompts]
    with torch.inference_mode():
        expected = torch.stack([model(torch.tensor([row])).logits[0, -1] for row in whole])
        assert torch.allclose(last_logits(fast, whole), expected, atol=1e-3)
        prefix = Prefix(fast, whole[0][:shared])
        for _ in range(2):  # the second batch finds it as the first did
            assert torch.allclose(last_logits(fast, prompts, prefix), expected, atol=1e-3)


@pytest.mark.parametrize("shared", [0, 2])
def test_logits_of_endings_predict_each_token_of_each(model: Any, fast: Any, shared: int) -> None:
    prompt, endings = [700, 701, 702], [[5, 6, 7], [8]]
    with torch.inference_mode():
        found = ending_logits(fast, prompt[shared:], endings, Prefix(fast, prompt[:shared]))
        for row, ending in zip(found, endings, strict=True):
            plain = model(torch.tensor([[*prompt, *ending]])).logits[0, len(prompt) - 1:-1]
            assert torch.allclose(row[:len(ending)], plain, atol=1e-3)


@given(st.lists(TOKENS, min_size=2, max_size=6), TOKENS)
def test_a_common_beginning_leaves_every_sequence_a_token_of_its_own(ends: list[list[int]], start: list[int]) -> None:
    whole = [[*start, *end] for end in ends]
    length = common_prefix(whole)
    assert len(start) <= length < min(map(len, whole))
    assert len({tuple(row[:length]) for row in whole}) == 1
    assert shared_prefix(whole) in (0, length) and shared_prefix(whole[:1]) == 0


def test_a_model_with_a_sliding_window_is_decoded_as_transformers_does_it(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    sliding = MistralForCausalLM(MistralConfig(
        vocab_size=50_000, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8)).eval()
    assert not can_share(sliding)
    prompt = list(range(900, 930))
    rows = [Row(prompt, Sampling(max_tokens=6), 0), Row(prompt[:11], Sampling(max_tokens=6), 0)]
    decode(sliding, tokenizer, rows, [2], lambda _: None)
    for row in rows:
        expected = sliding.generate(torch.tensor([row.prompt]), max_new_tokens=6, do_sample=False, eos_token_id=2)
        assert row.tokens == expected[0, len(row.prompt):].tolist()


@pytest.mark.parametrize("forward", [
    lambda self, states: (_ for _ in ()).throw(RuntimeError("no kernel")),
    lambda self, states: states.new_zeros((*states.shape[:-1], self.out_features))])
def test_a_model_that_cannot_be_packed_stays_as_it_was(model: Any, monkeypatch: pytest.MonkeyPatch,
                                                       forward: Any) -> None:
    model, ids = copy.deepcopy(model), torch.tensor([[905, 906, 907]])
    with torch.inference_mode():
        expected = model(ids).logits
        monkeypatch.setattr(PackedLinear, "forward", forward)
        assert not pack(model)
        assert not any(isinstance(module, PackedLinear) for module in model.modules())
        assert torch.equal(model(ids).logits, expected)
        assert model.lm_head.weight is model.model.embed_tokens.weight


def test_packing_never_holds_all_weights_twice(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = copy.deepcopy(model)
    plain = [weakref.ref(module) for module in copied.modules() if type(module) is torch.nn.Linear]
    alive: list[int] = []
    build = PackedLinear.__init__

    def count(self: PackedLinear, linear: torch.nn.Linear) -> None:
        alive.append(sum(one() is not None for one in plain))
        build(self, linear)

    monkeypatch.setattr(PackedLinear, "__init__", count)
    assert pack(copied)
    assert alive == list(range(len(plain), 0, -1))


def test_attention_without_copies_is_for_sdpa_on_cpu(tiny_model: Path, fast: Any,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    assert fast.config._attn_implementation == NAME
    used: list[bool] = []
    kernel = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda *tensors, **options: (
        used.append(options.get("enable_gqa", False)), kernel(*tensors, **options))[1])
    with torch.inference_mode():
        last_logits(fast, [[5, 6, 7], [6]], Prefix(fast, [4, 3]))
        fast(input_ids=torch.tensor([[5, 6], [7, 8]]), attention_mask=torch.tensor([[0, 1], [1, 1]]))
    assert used and all(used)
    eager = load_model(tiny_model)
    eager.set_attn_implementation("eager")
    use_grouped(eager)
    assert eager.config._attn_implementation == "eager"


@pytest.mark.parametrize(("text", "end"), [
    ("", None), ("\n \n", None), ("a", None), ("a\nb", 1), ("\n\n a\n", 4), ("<think>a\nb", None),
    ("<think>a\nb</think>", None), ("<think>a\nb</think>\nc\nd", 20), ("<think>x</think><think>\n</think>y\n", 33)])
def test_a_first_line_ends_at_the_newline_after_something(text: str, end: int | None) -> None:
    assert first_line_end(text) == end


@given(st.lists(st.sampled_from(["a", "b", " ", "\n", "<think>", "</think>", "[('x', 'positive')]"]), max_size=12))
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_stopping_at_the_end_of_the_first_line_changes_no_answer(pieces: list[str]) -> None:
    text = "".join(pieces)
    end = first_line_end(text)
    assume(end is not None and "think>" not in text[end:])  # reasoning that begins after the answer is cut off with it
    before = text[:end]
    assume(before.count("<think>") == before.count("</think>"))
    assert first_line(before) == first_line(text)
