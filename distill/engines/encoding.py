"""What all local engines share: prompts to token ids, the ids at which answers stop, and which label rule holds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill.engines.base import LabelScores, Output, Request, Sampling
from distill.engines.first_line import first_line_end
from distill.errors import InputError
from distill.models.tokenization import encode_continuations, encode_prompt, end_token_id, stop_token_ids
from distill.parsing.reasoning import begins_within
from distill.run.storage import read_json

NOT_A_NUMBER = "not_a_number"
FIRST_TOKEN, FULL_LIKELIHOOD = "first_token", "full_likelihood"
_TAIL = 16  # tokens of a prompt in which a mark that ends it stands


@dataclass(frozen=True)
class Encoded:
    """A prompt's token ids, or the reason why it cannot be asked (``error``).

    ``opening`` is the mark with which its chat template opens the model's reasoning (:mod:`distill.parsing.reasoning`),
    where it does: it belongs to the answer.
    """

    ids: list[int]
    error: str = ""
    opening: str = ""


def encode_request(tokenizer: Any, request: Request, limit: int, room: int) -> Encoded:
    """Encode one prompt, which together with ``room`` more tokens must fit into ``limit``.

    ``error`` is ``not_encodable`` (text that is no valid Unicode), ``empty_prompt``, or ``prompt_too_long``.

    Raises:
        InputError: the request is a chat turn and the model has no chat template.
    """
    if request.chat and not tokenizer.chat_template:
        raise InputError("The model has no chat template, so prompts cannot be put to it as chat turns. Use an "
                         "instruction-tuned model, or set chat_template to false.")
    try:
        ids = list(encode_prompt(tokenizer, request.prompt, request.chat))
    except (TypeError, UnicodeError):  # lone surrogates
        return Encoded([], "not_encodable")
    if not ids:
        return Encoded(ids, "empty_prompt")
    if len(ids) + room > limit:
        return Encoded(ids, "prompt_too_long")
    return Encoded(ids, opening=begins_within(tokenizer.decode(ids[-_TAIL:])) if request.chat else "")


def encode_labels(tokenizer: Any, labels: Sequence[str], chat: bool = False) -> tuple[list[list[int]], str]:
    """Return each label's token ids as a continuation of a prompt, and the rule by which the labels are told apart.

    Raises:
        InputError: there is no label, or an empty one.
    """
    ids = encode_continuations(tokenizer, labels, chat)
    if not ids or not all(ids):
        raise InputError(f"The labels {list(labels)} cannot be scored: there must be at least one, and none empty.")
    distinct = len({tokens[0] for tokens in ids}) == len(ids)
    return ids, FIRST_TOKEN if distinct else FULL_LIKELIHOOD


def answer_end_ids(tokenizer: Any, folder: Path) -> list[int]:
    """Return the ids at which an answer ends: those of its tokenizer and of the model's own settings.

    Raises:
        InputError: prompts cannot be built with the tokenizer.
    """
    encode_prompt(tokenizer, "x", chat=False)  # refuses a tokenizer that prompts cannot be built with, early
    ids = set(stop_token_ids(tokenizer))
    settings = folder / "generation_config.json"
    if settings.is_file():
        given = read_json(settings).get("eos_token_id")
        ids.update([given] if isinstance(given, int) else given or [])
    return sorted(ids)


def answer_text(tokenizer: Any, tokens: Sequence[int], reason: str, end_ids: Sequence[int],
                sampling: Sampling, opening: str = "") -> tuple[str, str]:
    """Return an answer's text behind its ``opening``, without what ended it, and the finish reason.

    A character of several tokens that ``max_tokens`` cut in the middle is left out.
    """
    kept = list(tokens[:-1]) if tokens and tokens[-1] in end_ids else list(tokens)
    text = opening + tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    ends = [text.find(string) for string in sampling.stop if string in text]
    if sampling.first_line and (end := first_line_end(text)) is not None:
        ends.append(end)
    if ends:
        return text[: min(ends)], "stop"
    return (text.rstrip("\ufffd") if reason == "length" else text), reason


def answer_length(tokenizer: Any, tokens: Sequence[int], text: str, reason: str, end_ids: Sequence[int],
                  opening: str = "") -> int:
    """Return how many of the tokens that were written are those of an answer's ``text`` and of its end.

    Where a stop string cut it, what follows is left out, and there is no end.
    """
    kept = list(tokens[:-1]) if tokens and tokens[-1] in end_ids else list(tokens)

    def shown(count: int) -> str:
        return opening + str(tokenizer.decode(kept[:count], skip_special_tokens=True,
                                              clean_up_tokenization_spaces=False))

    count = len(kept)
    if shown(count) == text or reason == "length":
        return len(tokens)
    while count and len(shown(count - 1)) >= len(text):
        count -= 1
    return count


def given_answer(tokenizer: Any, request: Request) -> list[int]:
    """Return the token ids of the answer that a request gives, as they stand behind its prompt."""
    assert request.answer is not None
    ids = encode_continuations(tokenizer, [request.answer], request.chat)[0] if request.answer else []
    end = end_token_id(tokenizer, request.chat) if request.ended else None
    return ids if end is None else [*ids, end]


def names_of(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Return what a tokenizer calls tokens; an empty string for an id that it does not know."""
    return [token or "" for token in tokenizer.convert_ids_to_tokens(list(ids))]


def label_scores(request: Request, encoded: Encoded, scores: Sequence[float], rule: str,
                 first_tokens: Sequence[float] = ()) -> LabelScores:
    """Return the label scores of a request; those that hold NaN or infinity say nothing: ``error`` not_a_number."""
    if not all(map(math.isfinite, (*scores, *first_tokens))):
        return failed_scores(request, replace(encoded, error=NOT_A_NUMBER), rule)
    return LabelScores(request.id, tuple(scores), len(encoded.ids), rule, first_tokens=tuple(first_tokens))


def failed_output(request: Request, encoded: Encoded) -> Output:
    """Return the output of a request that was not asked."""
    return Output(request.id, "", "error", len(encoded.ids), 0, encoded.error)


def failed_scores(request: Request, encoded: Encoded, rule: str) -> LabelScores:
    """Return the label scores of a request that was not asked."""
    return LabelScores(request.id, (), len(encoded.ids), rule, encoded.error)
