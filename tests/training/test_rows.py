"""What carries loss in a training row, that no row is cut or lost, and that the cheaper loss is the same loss."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill.config.schema import Train
from distill.run.records import TrainingRow
from tests.support.helpers import make_rows, write_dataset


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    from distill.models import load_tokenizer

    return load_tokenizer(tiny_model)


def encoded(rows, tokenizer, prompt_format, seed):
    """Return the token ids and the labels of rows, as training gets them."""
    import numpy as np
    import pyarrow as pa

    from distill.dataset.tokens import encode_rows
    from distill.training.token_files import completion_labels

    found = [row for row, _ in encode_rows(rows, tokenizer, prompt_format, seed)]
    labels = completion_labels(
        pa.array([row.input_ids for row in found]), np.array([row.n_prompt_tokens for row in found]))
    return [(row.input_ids, some) for row, some in zip(found, labels.to_pylist(), strict=True)]


@pytest.mark.parametrize(("prompt_format", "end"), [("raw", "<|endoftext|>"), ("chat", "<|im_end|>")])
def test_loss_is_on_the_completion_and_its_end_token_only(tokenizer, prompt_format, end):
    row = TrainingRow("a", "icldist", "sentiment/lw", "Text: fine\nLabel:", "positive")
    ((ids, labels),) = encoded([row], tokenizer, prompt_format, seed=1)
    assert len(ids) == len(labels)
    learned = [label for label in labels if label != -100]
    assert tokenizer.decode(learned).strip() == f"positive{end}"
    assert labels[-1] == ids[-1] == tokenizer.convert_tokens_to_ids(end)
    assert labels[:-len(learned)] == [-100] * (len(ids) - len(learned))
    assert ids[-len(learned):] == learned


@pytest.mark.parametrize("prompt_format", ["raw", "chat"])
def test_special_tokens_in_user_text_and_answers_stay_plain_text(tokenizer, prompt_format):
    def specials(prompt, completion):
        row = TrainingRow("a", "icldist", "x", prompt, completion)
        ((ids, _),) = encoded([row], tokenizer, prompt_format, seed=1)
        return sum(token in tokenizer.all_special_ids for token in ids)

    assert specials("say <|im_end|><|endoftext|> <|im_start|>", "no <|im_end|>") == specials("say", "no")


def test_mixed_draws_one_form_a_row_whatever_the_order(tokenizer):
    rows = make_rows(40)
    drawn = encoded(rows, tokenizer, "mixed", seed=3)
    assert drawn == encoded(rows[::-1], tokenizer, "mixed", seed=3)[::-1]
    ends = {labels[-1] for _, labels in drawn}
    assert ends == {tokenizer.convert_tokens_to_ids(end) for end in ("<|endoftext|>", "<|im_end|>")}


def loss_of(model, batch, n_items=None):
    """Return the loss as the trainer scales it."""
    from distill.config.sections.training import SftObjective
    from distill.training.objectives import objective_of

    learned = (batch["labels"][:, 1:] != -100).sum()
    return objective_of(SftObjective()).loss(model, batch) / (learned if n_items is None else n_items)


def padded_batch(tokenizer, rows):
    import torch
    pairs = encoded(rows, tokenizer, "raw", seed=1)
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

    model, batch = load_model(tiny_model, "float32", "cpu"), padded_batch(tokenizer, make_rows(6))
    if lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    expected = model(**batch, **({} if n_items is None else {"num_items_in_batch": n_items})).loss
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    wanted = torch.autograd.grad(expected, weights)
    loss = loss_of(model, batch, n_items)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for ours, theirs in zip(torch.autograd.grad(loss, weights), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_model_that_gives_its_head_other_shapes_gets_the_same_loss(tiny_model, tokenizer, monkeypatch):
    import torch

    from distill.models import load_model

    model, batch = load_model(tiny_model, "float32", "cpu"), padded_batch(tokenizer, make_rows(3))
    elsewhere = torch.nn.Linear(1, 1)  # the model's hidden states never pass here, so nothing is selected
    monkeypatch.setattr(type(model), "get_output_embeddings", lambda _: elsewhere)
    assert loss_of(model, batch).item() == pytest.approx(model(**batch).loss.item(), abs=1e-5)


def test_long_rows_are_counted_and_listed_not_cut(tiny_model, tokenizer, tmp_path):
    from distill.dataset.tokens import RowEncoder, TooLong
    from distill.training.token_files import write_token_files

    rows = [*make_rows(), TrainingRow("long", "icldist", "x", "word " * 50, "yes")]
    config = Train(max_length=40)
    *_, long = RowEncoder(tiny_model, config, 42).encode(rows)
    assert isinstance(long, TooLong) and long.detail.endswith("tokens of at most 40")
    files = write_dataset(tmp_path, {"icldist": rows}, tiny_model, config)
    result = write_token_files(files, tokenizer.pad_token_id, config, "icldist", tmp_path / "tokens")
    assert result.n_in == 24 == result.n_train + sum(result.not_trained_on.values())
    assert result.not_trained_on == {"validation": 1}
    assert result.longest <= 40


# ---------------------------------------------------------------- templates of other families

_LLAMA_3 = """{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>

{{ m['content'] | trim }}<|eot_id|>{% endfor -%}
{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""
_QWEN = """{% if messages[0]['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ m['role'] }}
{{ m['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def of_family(tokenizer, folder, template, specials, bos, eos):
    """Return a tokenizer with the special tokens and the kind of template of another family."""
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(folder)
    if "<|end_of_text|>" in specials:  # there is no other end of text in that family
        for path in folder.glob("*.json"):
            path.write_text(path.read_text(encoding="utf-8").replace("<|endoftext|>", "<|end_of_text|>"), "utf-8")
    made = AutoTokenizer.from_pretrained(folder)
    made.add_special_tokens({"additional_special_tokens": specials, "eos_token": eos,
                             **({"bos_token": bos} if bos else {})})
    made.chat_template = template
    if bos:  # as Llama-3's: put before every raw prompt
        from tokenizers.processors import TemplateProcessing

        made._tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, made.convert_tokens_to_ids(bos))])
    return made


@pytest.fixture(scope="module", params=["llama-3", "qwen2.5"])
def family(request, tokenizer, tmp_path_factory):
    """(tokenizer, end of text, end of turn, what begins a raw prompt, how the chat form begins)."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "llama-3":
        specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
        made = of_family(tokenizer, folder, _LLAMA_3, specials, "<|begin_of_text|>", "<|eot_id|>")
        return made, "<|end_of_text|>", "<|eot_id|>", "<|begin_of_text|>", "<|begin_of_text|><|start_header_id|>user"
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return (of_family(tokenizer, folder, _QWEN, specials, None, "<|im_end|>"), "<|endoftext|>", "<|im_end|>", "",
            "<|im_start|>system\n")


def test_other_families_learn_the_completion_and_the_right_end_token(family):
    tokenizer, end_of_text, end_of_turn, begins_raw, begins_chat = family
    row = TrainingRow("a", "icldist", "x", "Text: fine\nLabel:", "positive")
    for form, end, begins in (("raw", end_of_text, begins_raw), ("chat", end_of_turn, begins_chat)):
        ((ids, labels),) = encoded([row], tokenizer, form, seed=1)
        learned = [label for label in labels if label != -100]
        assert tokenizer.decode(learned).strip() == f"positive{end}"
        assert learned[-1] == tokenizer.convert_tokens_to_ids(end) == ids[-1] and learned.count(learned[-1]) == 1
        assert labels == [-100] * (len(ids) - len(learned)) + learned and ids[-len(learned):] == learned
        whole = tokenizer.decode(ids)
        assert whole.startswith(begins + ("Text: fine" if form == "raw" else ""))
        assert whole.count(begins_raw or "no such token") == (1 if begins_raw else 0), "one begin-of-text, not two"


def test_special_tokens_of_other_families_in_user_text_are_plain_text(family):
    tokenizer, end_of_text, end_of_turn, *_ = family
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    for form in ("raw", "chat"):
        counts = []
        for text in ("fine", f"fine {end_of_turn}{end_of_text} <|im_start|><|start_header_id|>"):
            ((ids, _),) = encoded([TrainingRow("a", "icldist", "x", text, text)], tokenizer, form, seed=1)
            counts.append(sum(token in special for token in ids))
        assert counts[0] == counts[1]


def test_what_is_generated_stops_at_both_ends(family):
    from distill.models.tokenization import stop_token_ids

    tokenizer, end_of_text, end_of_turn, *_ = family
    assert set(tokenizer.convert_tokens_to_ids([end_of_text, end_of_turn])) <= set(stop_token_ids(tokenizer))


@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=20)), max_size=4), st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_many_rows_at_once_are_encoded_as_each_alone(tokenizer, pairs, chat):
    from distill.models.tokenization import encode_completion, encode_pairs, encode_prompt

    assert encode_pairs(tokenizer, pairs, chat) == [
        (encode_prompt(tokenizer, prompt, chat), encode_completion(tokenizer, prompt, completion, chat))
        for prompt, completion in pairs]


# ---------------------------------------------------------------- packing


def test_packed_rows_do_not_see_each_other(tiny_model, tokenizer):
    """Their losses, one by one, are those of the rows alone; and each row's, whatever stands beside it."""
    import torch
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from distill.models import load_model

    model = load_model(tiny_model, "float32", "cpu")
    rows = [{"input_ids": ids, "labels": labels} for ids, labels in encoded(make_rows(8), tokenizer, "raw", 1)]
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)

    def loss(some):
        return loss_of(model, collate(some), n_items=1).item()

    alone = [loss([row]) for row in rows]
    assert loss(rows) == pytest.approx(sum(alone), abs=1e-4)
    padded = padded_batch(tokenizer, make_rows(8))
    assert loss(rows) == pytest.approx(
        loss_of(model, padded, n_items=1).item(), abs=1e-4)
    torch.manual_seed(0)
    for row, expected in zip(rows[1:], alone[1:], strict=True):
        assert loss([rows[0], row]) - alone[0] == pytest.approx(expected, abs=1e-4)
