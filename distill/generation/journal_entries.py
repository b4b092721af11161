"""The lines of a journal: what a line must be to be believed. A journal may be torn, damaged, or somebody else's."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeGuard, get_type_hints

from distill.run.records import LabelLogprobs, Response
from distill.run.top_logprobs import TopLogprobs, from_json

MOST_TOKENS = 1 << 40
"""Of one answer or portion. More is no count, but a mistake, which no sum and no file should have to hold."""
_MOST_SECONDS = 1e12
_FINISH_REASONS = ("stop", "length", "error")
_TYPES = get_type_hints(Response)
_NEEDED = {field.name for field in fields(Response)} - {"failure", "counts_estimated"}


@dataclass(frozen=True)
class JournalEntry:
    """Answers that ended together, the engine's seconds on them, and the tokens that it did not have to compute.

    ``n_damaged`` counts what stood beside them and can be no answer.
    """

    responses: tuple[Response, ...]
    seconds: float = 0.0
    n_cached_tokens: int = 0
    n_damaged: int = 0
    label_logprobs: tuple[LabelLogprobs, ...] = ()
    top_logprobs: tuple[TopLogprobs, ...] = ()


def line_of(portion: JournalEntry) -> bytes:
    """Return a portion as a line."""
    scored = {"label_logprobs": [asdict(item) for item in portion.label_logprobs]} if portion.label_logprobs else {}
    if portion.top_logprobs:
        scored["top_logprobs"] = [item.to_json() for item in portion.top_logprobs]
    return encoded({"seconds": round(portion.seconds, 6), "cached": portion.n_cached_tokens,
                    "responses": [asdict(item) for item in portion.responses], **scored})


def encoded(value: dict[str, Any]) -> bytes:
    """Return a JSON object as a line."""
    return json.dumps(value, ensure_ascii=True).encode() + b"\n"


def lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield (offset of its end, value) of each line that was written to its end; None for one that is no object."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        end = 0
        for line in stream:
            if not line.endswith(b"\n"):
                return  # torn by a crash
            end += len(line)
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            yield end, value if isinstance(value, dict) else None


def portion_of(value: dict[str, Any] | None) -> JournalEntry:
    """Return what a line holds; of what is of another form, nothing but the number."""
    if value is None or not isinstance(found := value.get("responses"), list):
        return JournalEntry((), n_damaged=1)
    read = [_response(item) for item in found]
    given = value.get("label_logprobs", [])
    scored = [_label_logprobs(item) for item in given] if isinstance(given, list) else [None]
    given = value.get("top_logprobs", [])
    top = [from_json(item) for item in given] if isinstance(given, list) else [None]
    seconds, cached = value.get("seconds"), value.get("cached")
    right = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < _MOST_SECONDS
    return JournalEntry(tuple(item for item in read if item), float(seconds or 0) if right else 0.0,
                   cached if is_count(cached) else 0,
                   sum(some.count(None) for some in (read, scored, top)) + (not right) + (not is_count(cached)),
                   tuple(item for item in scored if item), tuple(item for item in top if item is not None))


def is_count(value: Any) -> TypeGuard[int]:
    """Say whether a value can be a number of tokens."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_TOKENS


def _label_logprobs(item: Any) -> LabelLogprobs | None:
    if not isinstance(item, dict) or item.keys() != {"prompt_id", "labels", "logprobs"}:
        return None
    key, labels, logprobs = item["prompt_id"], item["labels"], item["logprobs"]
    if not (isinstance(labels, list) and isinstance(logprobs, list) and len(logprobs) in (0, len(labels))):
        return None
    if not all(isinstance(text, str) and _is_unicode(text) for text in (key, *labels)):
        return None
    if not all(isinstance(value, float) and math.isfinite(value) for value in logprobs):
        return None
    return LabelLogprobs(key, labels, logprobs)


def _response(item: Any) -> Response | None:
    if not (isinstance(item, dict) and item.keys() >= _NEEDED and item.keys() <= _TYPES.keys()):
        return None
    right = all(is_count(value) if _TYPES[key] is int else isinstance(value, _TYPES[key])
                for key, value in item.items())
    if not right or item["finish_reason"] not in _FINISH_REASONS:
        return None
    return Response(**item) if _is_unicode("".join(part for part in item.values() if isinstance(part, str))) else None


def _is_unicode(text: str) -> bool:
    """Say whether a text has no lone surrogates, which no file of answers can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
