"""The length check before the teacher is asked: what would not fit is shortened, or dropped and counted."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from distill.prompting.draft import Draft
from distill.records import Drop, Prompt
from distill.tokenization import encode_prompt

CountTokens = Callable[[list[str]], list[int]]
BATCH = 256
EXCERPT = 200


@dataclass(frozen=True)
class Window:
    """What one model can hold, in its own tokens: prompt, the longest answer allowed, and ``extra``."""

    model: Literal["teacher", "student"]
    max_length: int
    count: CountTokens
    extra: int = 0


@dataclass(frozen=True)
class Limits:
    """The windows a prompt must fit, and the longest answer of each family of prompts in tokens."""

    windows: tuple[Window, ...]
    max_tokens: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON values; the tokenizers are for the caller to name."""
        return {"max_tokens": dict(self.max_tokens),
                "windows": {item.model: [item.max_length, item.extra] for item in self.windows}}


def limits(
    max_tokens: Mapping[str, int], teacher: CountTokens, teacher_context: int,
    student: CountTokens, student_max_length: int,
) -> Limits:
    """Return the limits of a run: the student's window also holds the end token that training adds."""
    return Limits((Window("teacher", teacher_context, teacher),
                   Window("student", student_max_length, student, extra=1)), max_tokens)


@dataclass
class Tally:
    """The account of one family while its drafts stream through :func:`fit_prompts`."""

    n_in: int = 0
    n_out: int = 0
    shortened: int = 0
    demonstrations: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    text_ids: set[str] = field(default_factory=set)
    drops: list[Drop] = field(default_factory=list)


def fit_prompts(
    drafts: Iterable[Draft], limits: Limits, wanted: int, seen: set[str], tally: Tally, batch: int = BATCH
) -> Iterator[Prompt]:
    """Yield prompts that fit every window, in the order of their drafts, until there are ``wanted`` of them.

    A prompt fits a window when its tokens, the longest answer of its family and ``extra`` are at most
    ``max_length``. One that does not loses demonstrations one at a time from the front, down to the draft's
    ``fewest``; one that still does not is dropped as ``too_long_teacher`` or ``too_long_student``, and one
    whose id is in ``seen`` as ``duplicate_prompt``. The result does not depend on ``batch``.
    """
    stream = iter(drafts)
    while tally.n_out < wanted and (some := list(islice(stream, min(batch, 16 + wanted - tally.n_out)))):
        for draft, (prompt, problem) in zip(some, _fit(some, limits), strict=True):
            if tally.n_out == wanted:
                return
            tally.n_in += 1
            reason, detail = problem
            if not reason and prompt.id in seen:
                reason, detail = "duplicate_prompt", f"the same {prompt.kind} prompt was built before"
            if reason:
                tally.drops.append(
                    Drop(prompt.id, f"prompts/{draft.family}", reason, detail, draft.text[:EXCERPT]))
                continue
            seen.add(prompt.id)
            tally.n_out += 1
            tally.shortened += prompt.n_demonstrations < len(draft.demonstrations)
            tally.demonstrations += prompt.n_demonstrations
            tally.kinds[prompt.kind] += 1
            tally.text_ids.add(prompt.text_id)
            yield prompt


def _fit(drafts: Sequence[Draft], limits: Limits) -> list[tuple[Prompt, tuple[str, str]]]:
    """Return each draft's longest prompt that fits with an empty problem, else its shortest with (reason, detail)."""
    results: dict[int, tuple[Prompt, tuple[str, str]]] = {}
    pending = {index: draft.render() for index, draft in enumerate(drafts)}
    while pending:
        problems = _problems(list(pending.values()), limits)
        shorter: dict[int, Prompt] = {}
        for (index, prompt), problem in zip(pending.items(), problems, strict=True):
            if problem[0] and prompt.n_demonstrations > drafts[index].fewest:
                shorter[index] = drafts[index].render(prompt.n_demonstrations - 1)
            else:
                results[index] = (prompt, problem)
        pending = shorter
    return [results[index] for index in range(len(drafts))]


def _problems(prompts: Sequence[Prompt], limits: Limits) -> list[tuple[str, str]]:
    problems = [("", "")] * len(prompts)
    for window in limits.windows:
        counts = window.count([prompt.prompt for prompt in prompts])
        for index, (prompt, tokens) in enumerate(zip(prompts, counts, strict=True)):
            room = limits.max_tokens[prompt.family] + window.extra
            if tokens + room > window.max_length and not problems[index][0]:
                detail = (f"{tokens} tokens with {prompt.n_demonstrations} demonstrations, and {room} for the answer; "
                          f"the {window.model}'s window is {window.max_length}")
                problems[index] = (f"too_long_{window.model}", detail)
    return problems


def token_counter(tokenizer: Any, prompt_format: Literal["raw", "chat", "mixed"]) -> CountTokens:
    """Return a function that counts prompts' tokens as :func:`distill.tokenization.encode_prompt` would.

    ``chat`` adds the chat template's own tokens, which are as many for every prompt; ``mixed`` counts the
    longer of the two forms.
    """
    overhead = 0
    if prompt_format != "raw":
        overhead = len(encode_prompt(tokenizer, "x", chat=True)) - len(_plain(tokenizer, ["x"], False)[0])

    def count(prompts: list[str]) -> list[int]:
        if not prompts:
            return []
        raw = [len(ids) for ids in _plain(tokenizer, prompts, True)] if prompt_format != "chat" else [0] * len(prompts)
        if prompt_format == "raw":
            return raw
        chat = [len(ids) + overhead for ids in _plain(tokenizer, prompts, False)]
        return [max(pair) for pair in zip(raw, chat, strict=True)]

    return count


def _plain(tokenizer: Any, prompts: list[str], special: bool) -> list[list[int]]:
    return tokenizer(prompts, add_special_tokens=special, split_special_tokens=True, verbose=False)["input_ids"]
