"""Rewritings that are the text itself.

The paper's rewriting prompts (Table 10) ask for the thought process first and then for the rewritten version, so a
copy is hidden behind words that are new. What is compared with the text is the rewritten version alone.
"""

import re
from functools import cache

from distill.config.prompt_files import knowdist_prompts
from distill.config.sections.filters import CopiedFilter
from distill.dataset.filters.words import runs, words
from distill.run.records import Prompt, Response

_FEWEST_WORDS = 5  # of a text, to be looked for where nothing says which part of the answer is the rewritten version
_REWRITTEN = r"(?:rewritten|rewrite|rewriting|rephrased|rephrasing|reworded|rewording|revised|paraphrased?)"
_OF = r"(?:text|version|sentence|review|tweet|statement|passage|message|post|comment|paragraph|form|output)"
# "Rewritten text:", "**Rewritten Version**" and "Here is a rewritten version that …:" lead in a rewritten version;
# "Changes in the rewritten text:" and "Original text to be rewritten:" do not. All of it stands before a colon.
_LEAD_IN = re.compile(
    rf"^(?![^\n:]*\b(?:thought|process|plan|approach|steps?|strategy|changes|adjustments|original)\b)"
    rf"(?![^\n:]*\b(?:in|to be|of|for|behind)\s+(?:(?:the|this|my|your|a)\s+)?{_REWRITTEN}\b)(?:"
    rf"[^\n:]{{0,40}}?\b{_REWRITTEN}(?:\s+{_OF})?(?:\s*\([^()\n]{{0,40}}\))?[\s*_#\"”]*(?::|$)"
    rf"|[\W_]*here(?:['’]?s|\s+is|\s+are)\b(?=[^\n:]*\b(?:{_REWRITTEN}|version)\b)[^\n:]{{0,160}}:"
    rf")[\s*_]*", re.IGNORECASE | re.MULTILINE)
_QUOTES = re.compile(r"[\"“”„«»]")


class CopiedRewriting:
    """Answers to rewriting prompts whose rewritten version is nearly the text.

    The rewritten version is what follows the last lead-in ("Rewritten text:"), or, where there is none, the end of
    the answer: a little more than the length of the text. In it, the lines (or quotations) with a third or more of
    their word runs from the text are held against it, so that a comment on the changes does not count; the answer is a
    copy when they and the text share more than ``rewriting_threshold`` of the runs of both (Dice). So a text quoted in
    the thought process, a sentence that is kept, and a text kept whole amid as many new words are no copies.
    """

    reason = "copied"

    def __init__(self, config: CopiedFilter) -> None:
        """Use ``config.rewriting_threshold`` and ``config.run_length``."""
        self._config = config

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """See :class:`distill.dataset.filters.base.Filter`."""
        if not is_rewriting(prompt):
            return None
        text = words(user_text(prompt))
        part = rewritten_version(response.output)
        if part is None and len(text) >= _FEWEST_WORDS:
            part = _end(response.output, len(text) + max(5, len(text) // 4))
        if not part or not text:
            return None
        share = max(self._share(text, part.splitlines()), self._share(text, _pieces(part)))
        return f"its rewritten version is {share:.0%} the text" if share > self._config.rewriting_threshold else None

    def _share(self, text: list[str], pieces: list[str]) -> float:
        length = min(self._config.run_length, len(text))
        there = set(runs(text, length))
        kept: set[tuple[str, ...]] = set()
        for piece in pieces:
            said = runs(words(piece), length)
            if 3 * sum(run in there for run in said) > len(said):
                kept |= set(said)
        return 2 * len(kept & there) / (len(kept) + len(there))


def is_rewriting(prompt: Prompt) -> bool:
    """Return whether a prompt asks for a rewritten text (Table 10)."""
    return prompt.family == "knowdist" and prompt.kind.startswith("rewrite/")


def user_text(prompt: Prompt) -> str:
    """Return the user's text inside a KnowDist prompt; the whole prompt where it is not of today's layout."""
    match = _layout(knowdist_prompts().layout).fullmatch(prompt.prompt)
    return match["Text"] if match else prompt.prompt


def rewritten_version(answer: str) -> str | None:
    """Return what follows the last lead-in of a rewritten version; None where the answer has no lead-in."""
    ends = [match.end() for match in _LEAD_IN.finditer(answer)]
    return answer[ends[-1]:].strip() if ends else None


@cache
def _layout(layout: str) -> re.Pattern[str]:
    # Instructions never hold what stands between them and the text; a text may.
    pattern = re.escape(layout)
    for slot, inside in (("Instruction", ".*?"), ("Text", ".*")):
        pattern = pattern.replace(re.escape("{" + slot + "}"), f"(?P<{slot}>{inside})", 1)
    return re.compile(pattern, re.DOTALL)


def _pieces(part: str) -> list[str]:
    return [piece for line in part.splitlines() for piece in _QUOTES.split(line)]


def _end(answer: str, n_words: int) -> str:
    """Return the last lines and quotations of an answer that have at most ``n_words`` words together."""
    kept: list[str] = []
    for piece in reversed(_pieces(answer)):
        n_words -= len(words(piece))
        if n_words < 0:
            break
        kept.append(piece)
    return "\n".join(reversed(kept))
