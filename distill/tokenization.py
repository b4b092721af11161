"""Text to token ids, the same way for the teacher, for training and for evaluation.

User text is data: special tokens that stand in it are tokenised as plain characters, in raw and in chat form.
"""

from collections.abc import Sequence
from typing import Any

from distill.errors import InputError

_SLOT = "\u2063sentidistill-slot\u2063"
# Llama-3's template prints today's date unless it is told one; prompts must not depend on the day of the run.
_DATE = "26 Jul 2024"
_END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")


def encode_prompt(tokenizer: Any, prompt: str, chat: bool) -> list[int]:
    """Return the token ids of a prompt: as raw text, or as a user turn followed by the start of the answer.

    Raises:
        InputError: ``chat`` is asked of a tokenizer without a chat template.
    """
    if not chat:
        return tokenizer(prompt, split_special_tokens=True)["input_ids"]
    before, after = _user_turn(tokenizer)
    return _encode(tokenizer, before) + _encode(tokenizer, prompt, data=True) + _encode(tokenizer, after)


def encode_completion(tokenizer: Any, prompt: str, completion: str, chat: bool) -> list[int]:
    """Return the token ids that are learned: the answer and the token that ends it."""
    text = completion.strip() if chat else raw_separator(prompt) + completion.strip()
    return [*_encode(tokenizer, text, data=True), end_token_id(tokenizer, chat)]


def encode_pairs(tokenizer: Any, pairs: Sequence[tuple[str, str]], chat: bool) -> list[tuple[list[int], list[int]]]:
    """Return each (prompt, completion) as :func:`encode_prompt` and :func:`encode_completion` would, many times faster.

    Raises:
        InputError: ``chat`` is asked of a tokenizer without a chat template.
    """
    if not pairs:
        return []
    end = end_token_id(tokenizer, chat)
    completions = tokenizer(
        [completion.strip() if chat else raw_separator(prompt) + completion.strip() for prompt, completion in pairs],
        add_special_tokens=False, split_special_tokens=True, return_attention_mask=False)["input_ids"]
    prompts = tokenizer([prompt for prompt, _ in pairs], add_special_tokens=not chat, split_special_tokens=True,
                        return_attention_mask=False)["input_ids"]
    before, after = [_encode(tokenizer, text) for text in _user_turn(tokenizer)] if chat else ([], [])
    return [([*before, *prompt, *after], [*completion, end])
            for prompt, completion in zip(prompts, completions, strict=True)]


def raw_separator(prompt: str) -> str:
    """Return what stands between a raw prompt and its answer: a space after a colon, else a new line."""
    return " " if prompt.rstrip().endswith(":") else "\n"


def end_token_id(tokenizer: Any, chat: bool) -> int:
    """Return the id of the token that ends an answer: end of turn in chat form, end of text in raw form."""
    if chat:
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": _SLOT}], tokenize=False)
        after = _encode(tokenizer, rendered.split(_SLOT)[-1])
        special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        return next((token for token in after if token in special), tokenizer.eos_token_id)
    # Token by token: copying the whole vocabulary out of the tokenizer takes tens of milliseconds, for every row.
    ids = ((token, tokenizer.convert_tokens_to_ids(token)) for token in _END_OF_TEXT)
    return next((i for token, i in ids if i is not None and tokenizer.convert_ids_to_tokens(i) == token),
                tokenizer.eos_token_id)


def stop_token_ids(tokenizer: Any) -> list[int]:
    """Return the ids at which generation stops, whichever form the model was trained in."""
    ids = {end_token_id(tokenizer, chat=False), tokenizer.eos_token_id}
    if tokenizer.chat_template:
        ids.add(end_token_id(tokenizer, chat=True))
    return sorted(token for token in ids if token is not None)


def _encode(tokenizer: Any, text: str, data: bool = False) -> list[int]:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=data)["input_ids"] if text else []


def _user_turn(tokenizer: Any) -> tuple[str, str]:
    if not tokenizer.chat_template:
        raise InputError(
            f"The tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template. Use an instruction-tuned "
            "model, or set teacher.chat_template to false (for the student: train.prompt_format to raw).")
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": _SLOT}], tokenize=False, add_generation_prompt=True, date_string=_DATE)
    before, _, after = rendered.partition(_SLOT)
    return before, after
