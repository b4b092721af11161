"""What carries loss in a training row, that no row is cut or lost, and that the cheaper loss is the same loss."""

import pytest

from distill.config.schema import Train
from distill.records import Drop, SftRow, read_records
from tests.helpers import make_rows


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    from distill.models import load_tokenizer

    return load_tokenizer(tiny_model)


@pytest.mark.parametrize(("prompt_format", "end"), [("raw", "<|endoftext|>"), ("chat", "<|im_end|>")])
def test_loss_is_on_the_completion_and_its_end_token_only(tokenizer, prompt_format, end):
    from distill.training.dataset import encode_rows

    row = SftRow("a", "icldist", "sentiment/lw", "Text: fine\nLabel:", "positive")
    ((ids, labels),) = encode_rows([row], tokenizer, prompt_format, seed=1)
    assert len(ids) == len(labels)
    learned = [label for label in labels if label != -100]
    assert tokenizer.decode(learned).strip() == f"positive{end}"
    assert labels[-1] == ids[-1] == tokenizer.convert_tokens_to_ids(end)
    assert labels[:-len(learned)] == [-100] * (len(ids) - len(learned))
    assert ids[-len(learned):] == learned


@pytest.mark.parametrize("prompt_format", ["raw", "chat"])
def test_special_tokens_in_user_text_and_answers_stay_plain_text(tokenizer, prompt_format):
    from distill.training.dataset import encode_rows

    def specials(prompt, completion):
        row = SftRow("a", "icldist", "x", prompt, completion)
        ((ids, _),) = encode_rows([row], tokenizer, prompt_format, seed=1)
        return sum(token in tokenizer.all_special_ids for token in ids)

    assert specials("say <|im_end|><|endoftext|> <|im_start|>", "no <|im_end|>") == specials("say", "no")


def test_mixed_draws_one_form_a_row_whatever_the_order(tokenizer):
    from distill.training.dataset import encode_rows

    rows = make_rows(40)
    drawn = encode_rows(rows, tokenizer, "mixed", seed=3)
    assert drawn == encode_rows(rows[::-1], tokenizer, "mixed", seed=3)[::-1]
    ends = {labels[-1] for _, labels in drawn}
    assert ends == {tokenizer.convert_tokens_to_ids(end) for end in ("<|endoftext|>", "<|im_end|>")}


def padded_batch(tokenizer, rows):
    import torch

    from distill.training.dataset import encode_rows

    pairs = encode_rows(rows, tokenizer, "raw", seed=1)
    width = max(len(ids) for ids, _ in pairs)
    return {
        "input_ids": torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in pairs]),
        "labels": torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in pairs]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in pairs])}


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("n_items", [None, 40])
def test_head_only_loss_and_gradients_equal_the_models_own(tiny_model, tokenizer, lora, n_items):
    import torch

    from distill.models import load_model
    from distill.training.loss import completion_loss

    model, batch = load_model(tiny_model, "float32", "cpu"), padded_batch(tokenizer, make_rows(6))
    if lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    expected = model(**batch, **({} if n_items is None else {"num_items_in_batch": n_items})).loss
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    wanted = torch.autograd.grad(expected, weights)
    loss = completion_loss(model, model.get_output_embeddings(), batch, n_items)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for ours, theirs in zip(torch.autograd.grad(loss, weights), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_model_that_gives_its_head_other_shapes_gets_the_same_loss(tiny_model, tokenizer):
    import torch

    from distill.models import load_model
    from distill.training.loss import completion_loss

    model, batch = load_model(tiny_model, "float32", "cpu"), padded_batch(tokenizer, make_rows(3))
    elsewhere = torch.nn.Linear(1, 1)  # the model's hidden states never pass here, so nothing is selected
    assert completion_loss(model, elsewhere, batch).item() == pytest.approx(model(**batch).loss.item(), abs=1e-5)


def test_long_rows_are_counted_and_listed_not_cut(tokenizer, tmp_path):
    from distill.training.dataset import tokenize_rows

    rows = [*make_rows(), SftRow("long", "icldist", "x", "word " * 50, "yes")]
    result = tokenize_rows(lambda: iter(rows), tokenizer, Train(), 40, 42, "icldist", tmp_path)
    assert result.n_in == 25 == result.n_train + sum(result.dropped.values())
    assert result.dropped == {"too_long": 1, "held_out_for_eval": 1}
    drops = read_records(result.drops, Drop)
    assert [drop.id for drop in drops if drop.reason == "too_long"] == ["long"]
    assert result.longest <= 40
