"""How many tokens a prompt has: its pieces are counted, and a piece that many prompts share is counted once.

Tokenising whole prompts takes many times as long as building them, and most of a few-shot prompt is demonstrations
that stand in thousands of others.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from distill.models.tokenization import encode_prompts
from distill.prompting.bytelevel import bytes_a_byte, counts_add_up
from distill.prompting.candidate import PromptCandidate
from distill.run.hashing import fingerprint

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PromptFormat = Literal["raw", "chat", "mixed"]
_MOST_REMEMBERED = 20_000
_AROUND = ("x", " x", "(x)", "The food was good.", "Sentence: x", "\u65e5\u672c")
_PROBES = ("x", "\u65e5\u672c \U0001f642 ",
           "a <|im_end|></s>\n\nSentence: \u00e9\u0301 12345\r\n \n\n  Don't!\nOutput:")


class Encoder:
    """A tokenizer that only counts. Special tokens in a text are tokenised as the characters they are."""

    def __init__(self, tokenizer: Any) -> None:
        """Use a tokenizer of transformers, or the library beneath it where that counts the same."""
        self._python, self.mark = tokenizer, f"python {id(tokenizer)}"
        self._library: Tokenizer | None = None
        self._growth: int | None = None
        self._adds_up = False
        self._pieces: dict[str, int | None] = {}
        self._last: tuple[str, int] = ("", 0)
        if getattr(tokenizer, "is_fast", False):
            self._use_library(tokenizer.backend_tokenizer.to_str())

    def _use_library(self, settings: str) -> None:
        from tokenizers import Tokenizer

        library = Tokenizer.from_str(settings)
        library.encode_special_tokens = True  # as the text that they are
        library.no_truncation()
        library.no_padding()
        expected, self._library = self.count(_PROBES), library
        if self.count(_PROBES) != expected:
            self._library = None
            return
        self._python, self.mark = None, fingerprint(settings)
        self._growth = bytes_a_byte(json.loads(settings))
        self._adds_up = counts_add_up(json.loads(settings)) and self.count(["A"]) == [1]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take on what was sent to another process; the library forgets one setting on the way."""
        self.__dict__.update(state)
        if self._library is not None:
            self._library.encode_special_tokens = True

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return each text's number of tokens."""
        if not texts:
            return []
        if self._library is not None:
            return [len(item.ids) for item in self._library.encode_batch_fast(list(texts), add_special_tokens=False)]
        encoded = self._python(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def tokens(self, candidate: PromptCandidate, kept: int, enough: int) -> int:
        """Return the tokens of a candidate with its last ``kept`` demonstrations, or a bound of at most ``enough``.

        What surely has no more than that is not tokenised.
        """
        shared = self._shared(candidate, kept)
        rest = candidate.prompt(kept) if shared is None else candidate.question
        known = shared or 0
        if rest != self._last[0]:
            if self._growth is not None:
                most = known + (len(rest) if rest.isascii() else self._growth * len(rest.encode()))
                if most <= enough:
                    return most
            self._last = (rest, self.count([rest])[0])
        return known + self._last[1]

    def _shared(self, candidate: PromptCandidate, kept: int) -> int | None:
        """Return the tokens of all pieces but the question; None where the prompt has to be counted as a whole."""
        first = candidate.question[:1]
        if not self._adds_up or not (first.isascii() and first.isalpha()):
            return None
        pieces = candidate.demonstrations[len(candidate.demonstrations) - kept:]
        total = 0
        for piece in (candidate.head, *pieces):
            size = self._pieces.get(piece, -1)
            if size == -1:
                if len(self._pieces) >= _MOST_REMEMBERED:
                    self._pieces.clear()
                size = self._pieces[piece] = self._piece(piece)
            if size is None:
                return None
            total += size
        return total

    def _piece(self, piece: str) -> int | None:
        if not piece:
            return 0
        if not (piece[0].isascii() and piece[0].isalpha() and piece[-1] == "\n"):
            return None
        return self.count([piece + "A"])[0] - 1


class TokenCounter:
    """Counts prompts' tokens as :func:`distill.models.tokenization.encode_prompt` would.

    ``chat`` adds the chat template's own tokens; a prompt whose ends the template strips, or that begins with a new
    line, may have fewer. ``mixed`` counts the longer of the two forms.
    """

    def __init__(self, tokenizer: Any, prompt_format: PromptFormat) -> None:
        self.encoder = Encoder(tokenizer)
        forms = {"raw": (False,), "chat": (True,), "mixed": (False, True)}[prompt_format]
        around = [[len(ids) - size for ids, size in zip(encode_prompts(tokenizer, _AROUND, chat),
                                                        self.encoder.count(_AROUND), strict=True)] for chat in forms]
        self._extra = max(map(max, around))
        # What stands around a text may take the blank from its beginning, and so change its first word's tokens.
        self._whole = (tokenizer, forms) if any(len(set(sizes)) > 1 for sizes in around) else None

    def __call__(self, prompts: Sequence[str]) -> list[int]:
        """Return each prompt's number of tokens."""
        if self._whole is None:
            return [size + self._extra for size in self.encoder.count(prompts)]
        tokenizer, forms = self._whole
        counts = [[len(ids) for ids in encode_prompts(tokenizer, prompts, chat)] for chat in forms]
        return [max(sizes) for sizes in zip(*counts, strict=True)]

    def tokens(self, candidate: PromptCandidate, kept: int, enough: int) -> int:
        """Return the tokens of a candidate with its last ``kept`` demonstrations, or a bound of at most ``enough``."""
        if self._whole is not None:
            return self([candidate.prompt(kept)])[0]
        return self.encoder.tokens(candidate, kept, enough - self._extra) + self._extra


def share_encoder(one: object, other: object) -> None:
    """Have two counters whose tokenizers are the same count each prompt once between them."""
    if isinstance(one, TokenCounter) and isinstance(other, TokenCounter) and other.encoder.mark == one.encoder.mark:
        other.encoder = one.encoder


def token_counter(tokenizer: Any, prompt_format: PromptFormat) -> TokenCounter:
    """Return a counter of a tokenizer's tokens in prompts of a form."""
    return TokenCounter(tokenizer, prompt_format)
