"""A model's chat template, looked into once: what stands around a user's text, and around the answer.

Templates are programs. What one makes of a text is taken from it, and one that does anything else to the text than to
set it between two others (and to strip it) is refused.
"""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from distill.errors import InputError

_SLOT, _ANSWER = "\u2063sentidistill-slot\u2063", "\u2063sentidistill-answer\u2063"
_DAY = datetime.datetime(2024, 7, 26)
"""The day in prompts whose template prints today's: the one that Llama 3's prints where it is told none."""
_PROBE = "A \"quoted\" 'text' <b>of</b> {x} {{ y }} {% z %} \\n é 日本 \U0001f642\nand a line &amp; more"
_STRIPS: tuple[Callable[[str], str], ...] = (str, str.strip, str.lstrip, str.rstrip)


@dataclass(frozen=True)
class Turn:
    """A user's turn and the answer to it: ``before`` text ``after``, then ``lead`` answer ``tail``, then ``end``.

    ``after`` ends where the model begins. ``strip`` is what the template does to the text. ``lead`` is None where the
    template writes an answer that was given otherwise than one that is to be made. ``end`` is the id of the token
    that ends an answer, None where the template writes no special token there.
    """

    before: str
    after: str
    strip: Callable[[str], str]
    lead: str | None
    tail: str
    end: int | None

    def around(self, text: str) -> str:
        """Return a user's text as the model is shown it."""
        return f"{self.before}{self.strip(text)}{self.after}"


def set_template_kwargs(tokenizer: Any, kwargs: Mapping[str, Any]) -> None:
    """Tell a tokenizer's chat template these, in every turn from now on."""
    _kwargs[tokenizer] = dict(kwargs)
    _known.pop(tokenizer, None)


def turn_of(tokenizer: Any) -> Turn:
    """Return what a tokenizer's chat template makes of a turn.

    Raises:
        InputError: it has no template, or one in which a text cannot be told from what is around it.
    """
    if not tokenizer.chat_template:
        raise InputError(f"{_name(tokenizer)} has no chat template. Use an instruction-tuned model, or set "
                         "teacher.chat_template to false (for the student: train.prompt_format to raw).")
    template = str(tokenizer.chat_template)
    known = _known.get(tokenizer)
    if known is None or known[0] != template:
        known = _known[tokenizer] = template, _look(tokenizer)
    return known[1]


_known: WeakKeyDictionary[Any, tuple[str, Turn]] = WeakKeyDictionary()
_kwargs: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Return the ids of special tokens, but for that of unknown words, which stands for ordinary text."""
    marked = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset({*tokenizer.all_special_ids, *marked} - {tokenizer.unk_token_id})


def _look(tokenizer: Any) -> Turn:
    problem = "its prompt does not hold the text exactly once"
    for content in (_as_text, _as_parts):
        try:
            shown = _render(tokenizer, [_user(content, _SLOT)], True)
        except Exception as error:  # of Jinja, or whatever a template does
            problem = f"{type(error).__name__}: {error}"
            continue
        if shown.count(_SLOT) == 1:
            break
    else:
        raise _refused(tokenizer, problem)
    before, after = shown.split(_SLOT)
    try:
        spaced, probed = (_render(tokenizer, [_user(content, text)], True) for text in (f" \n{_SLOT}\n ", _PROBE))
    except Exception as error:
        raise _refused(tokenizer, f"{type(error).__name__}: {error}") from error
    strip = next((one for one in _STRIPS if spaced == before + one(f" \n{_SLOT}\n ") + after), None)
    if strip is None or probed != f"{before}{_PROBE}{after}":
        raise _refused(tokenizer, "it changes the text")
    lead, rest = _answered(tokenizer, content, before + _SLOT + after)
    end = next((token for token in tokenizer(rest, add_special_tokens=False)["input_ids"]
                if token in special_ids(tokenizer) or token in tokenizer.added_tokens_decoder), None) if rest else None
    tail = rest.partition(tokenizer.convert_ids_to_tokens(end))[0] if end is not None else ""
    return Turn(before, after, strip, lead, tail, end)


def _answered(tokenizer: Any, content: Callable[[str], Any], asked: str) -> tuple[str | None, str]:
    """Return what stands between the start of an answer and the answer (None: another start), and what follows it."""
    try:
        shown = _render(tokenizer, [_user(content, _SLOT), {"role": "assistant", "content": content(_ANSWER)}], False)
    except Exception:  # a template that takes questions only can still be asked
        return None, ""
    head, found, rest = shown.partition(_ANSWER)
    if not found:
        return None, ""
    return head.removeprefix(asked) if head.startswith(asked) else None, rest


def _render(tokenizer: Any, messages: list[Mapping[str, Any]], start_answer: bool) -> str:
    given = {"date_string": _DAY.strftime("%d %b %Y"), "strftime_now": _DAY.strftime} | _kwargs.get(tokenizer, {})
    return str(tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=start_answer, **given))


def _user(content: Callable[[str], Any], text: str) -> dict[str, Any]:
    return {"role": "user", "content": content(text)}


def _as_text(text: str) -> str:
    return text


def _as_parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _refused(tokenizer: Any, problem: str) -> InputError:
    return InputError(f"The chat template of {_name(tokenizer)} cannot be used ({problem[:200]}). Repair it "
                      "(chat_template.jinja in the model's folder), or ask in raw form: teacher.chat_template false, "
                      "for the student train.prompt_format raw.")


def _name(tokenizer: Any) -> str:
    return f"the tokenizer of {tokenizer.name_or_path}" if tokenizer.name_or_path else "this model's tokenizer"
