"""``distill show``: prompts and the teacher's answers, printed for people to read."""

import unicodedata
from pathlib import Path

from rich.console import Console
from rich.text import Text

from distill.config.schema import Filters
from distill.dataset.filters import completion_of
from distill.dataset.inspect import Found, Judged, Query, find

_PROMPT_CHARS, _ANSWER_CHARS = 2000, 4000
_BIDIRECTIONAL = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def show(run: Path, filters: Filters, query: Query, console: Console, keep_reasoning: bool = False) -> None:
    """Print a sample of a run's answers (see :func:`distill.dataset.inspect.find`), and of how many it is."""
    found = find(run, filters, query)
    for item in found.sample:
        _print(item, console, keep_reasoning)
    for line in _summary(found, query):
        console.print(Text(line), soft_wrap=True)


def _print(item: Judged, console: Console, keep_reasoning: bool) -> None:
    verdict = f"{item.reason}: {item.detail}" if item.detail else item.reason
    response = item.response
    said = "no answer" if response.failure else f"answer, {response.n_output_tokens:,} tokens, {response.finish_reason}"
    header = f"━━ {item.prompt.id}  {item.stage}  {item.prompt.kind}  {verdict or 'kept'}"
    parts = [(header, "bold red" if verdict else "bold"),
             (f"── prompt, {len(item.prompt.prompt):,} characters", "dim"),
             (shortened(item.prompt.prompt, _PROMPT_CHARS), ""),
             (f"── {said}", "dim")]
    if not response.failure:
        parts.append((shortened(response.output, _ANSWER_CHARS), ""))
    learned = completion_of(item.prompt, response, keep_reasoning)
    if not verdict and learned != response.output.strip():
        parts += [("── trained on", "dim"), (learned, "")]
    for text, style in parts:
        console.print(Text(printable(text), style=style), soft_wrap=True)
    console.print()


def _summary(found: Found, query: Query) -> list[str]:
    what = f"rejected as {query.reason}" if query.reason else "rejected" if query.rejected else "kept"
    kinds = f" of the kind {query.kind}" if query.kind else ""
    lines = [f"{len(found.sample):,} of {found.matching:,} answers{kinds} that were {what}; {found.looked_at:,} were "
             f"looked at ({', '.join(query.stages)})."]
    if query.rejected and found.reasons:
        lines.append("Rejected: " + ", ".join(f"{name} {count:,}" for name, count in found.reasons.most_common()) + ".")
    if not found.built:
        what = "some of the shards" if found.capped else "the shards"
        lines.append("The training rows are not built from these answers yet: the filters were applied now, to "
                     f"{what} that are finished. Agreement and the student's length limit come later.")
    return lines


def shortened(text: str, most: int) -> str:
    """Return a text with its middle left out, and said so, where it is longer than ``most`` characters."""
    if len(text) <= most:
        return text
    begin, end = most * 2 // 3, most // 3
    return f"{text[:begin]}\n[… {len(text) - begin - end:,} characters left out …]\n{text[-end:]}"


def printable(text: str) -> str:
    """Return a text in which what would steer a terminal, or turn the direction of reading, is written out."""
    return "".join(char if char in "\n\t" or (unicodedata.category(char) not in ("Cc", "Cs")
                                              and char not in _BIDIRECTIONAL)
                   else char.encode("unicode_escape").decode() for char in text)
