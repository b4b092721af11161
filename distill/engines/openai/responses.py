"""What a server says, typed at the edge: nothing of it is believed to have the form, the type or the size it should.

What is behind this module has texts, counts within bounds, and words that a terminal and a log can show.
"""

import json
import math
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from distill.engines.openai.errors import TransientError
from distill.parsing import reasoning
from distill.secrets import without_secrets

MOST_TOKENS = 1 << 24
"""Of a prompt, an answer or a context: more is no count that any model knows."""
_SAID = 300  # characters of a server's message
_NAME = 80
_NAMES = 8
_LONGEST_NUMBER = 20
_BROKEN_OFF = {"abort", "aborted", "error", "cancelled"}  # the server was stopped, or gave up, in the middle
_FINISHED = {
    "stop": "stop", "eos": "stop", "eos_token": "stop", "end_turn": "stop", "stop_sequence": "stop",
    "tool_calls": "stop", "function_call": "stop", "length": "length", "max_tokens": "length", "max_length": "length",
    "model_length": "length", "content_filter": "content_filter", "safety": "content_filter"}


@dataclass(frozen=True)
class Completion:
    """What a server wrote. ``finish_reason``: ``stop``, ``length``, ``content_filter``, or empty where it says none.

    Counts are None where it says none that can be. ``stopped_by`` is the stop string, where the server says which.
    """

    text: str
    finish_reason: str
    n_prompt_tokens: int | None
    n_output_tokens: int | None
    n_cached_tokens: int
    stopped_by: str | None


@dataclass(frozen=True)
class ServedModel:
    """A model that a server has: who owns it, in the server's words, and tokens of prompt and answer together."""

    owned_by: str
    max_model_len: int | None


def parse_json(body: bytes | str) -> Any:
    """Return the JSON value of a body; numbers of more digits than any count has are infinite.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return json.loads(body, parse_int=_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def printable(text: object, most: int = _SAID) -> str:
    """Return a server's words on one line, without control characters and secrets, and not longer than ``most``."""
    words = " ".join(str(text)[:20 * most].split())
    shown = "".join("?" if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co", "Cn") else sign for sign in words)
    return without_secrets(shown)[:most]


def listed(names: Iterable[str]) -> str:
    """Return names that a server gave, the first few of them."""
    known = list(names)
    more = f" and {len(known) - _NAMES:,} more" if len(known) > _NAMES else ""
    return ", ".join(printable(name, _NAME) for name in known[:_NAMES]) + more


def error_message(body: str) -> str:
    """Return the message of a body: that of its JSON where there is one, else its beginning."""
    said: Any = body
    try:
        found = parse_json(body)
        inner = found.get("error", found.get("message", found.get("detail", said)))
        said = inner.get("message", inner) if isinstance(inner, dict) else inner
    except (ValueError, AttributeError):
        pass
    return printable(said)


def read_models(reply: dict[str, Any]) -> dict[str, ServedModel]:
    """Return what a server says of its models, by name.

    Raises:
        TransientError: it lists none.
    """
    data = reply.get("data")
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise TransientError("bad_answer", "its /models lists no models")
    found = {}
    for item in data:
        owner, length = item.get("owned_by"), count(item.get("max_model_len"))
        if isinstance(item.get("id"), str):
            found[item["id"]] = ServedModel(printable(owner, _NAME) if owner is not None else "None", length or None)
    return found


def read_completion(reply: dict[str, Any]) -> Completion:
    """Return what stands in a server's answer.

    Raises:
        TransientError: it has no text, or was broken off.
    """
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise TransientError("bad_answer", "an answer of another form than the protocol's (no choices)")
    choice = choices[0]
    reason, stopped_by = choice.get("finish_reason"), choice.get("stop_reason")
    reason = reason.lower() if isinstance(reason, str) else ""
    if reason in _BROKEN_OFF:
        raise TransientError("server_error", f"an answer that was broken off (finish_reason {reason})")
    usage = reply.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    text, prompt = _text(choice), count(usage.get("prompt_tokens")) or None
    output = count(usage.get("completion_tokens"))
    cached = count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return Completion(text, _FINISHED.get(reason, ""), prompt, None if text and not output else output,
                  min(cached or 0, prompt or 0), stopped_by if isinstance(stopped_by, str) else None)


def count(value: Any) -> int | None:
    """Return a number of tokens; None for what can be none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    right = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS
    return value if right else None


def _number(digits: str) -> float:
    return int(digits) if len(digits) <= _LONGEST_NUMBER else math.copysign(math.inf, -1 if digits[0] == "-" else 1)


def _text(choice: dict[str, Any]) -> str:
    message = choice.get("message")
    if not isinstance(message, dict):
        if not isinstance(text := choice.get("text"), str):
            raise TransientError("bad_answer",
                                 "an answer of another form than the protocol's (neither message nor text)")
        return text
    content = message.get("content")
    thoughts = next((said for key in ("reasoning_content", "reasoning") if isinstance(said := message.get(key), str)
                     and said.strip()), "")
    if thoughts and (content is None or isinstance(content, str)):
        return reasoning.marked(thoughts, content or "")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part(part) for part in content)
    if content is None:
        refusal = message.get("refusal")
        return refusal if isinstance(refusal, str) else ""
    raise TransientError("bad_answer", f"an answer whose content is no text ({type(content).__name__})")


def _part(part: Any) -> str:
    """Return the text of a part of the content; of parts that are none (thoughts, pictures), nothing."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise TransientError("bad_answer", f"an answer with a part that is no text ({type(part).__name__})")
    text = part.get("text") if part.get("type", "text") in ("text", "output_text") else part.get("refusal", "")
    return text if isinstance(text, str) else ""
