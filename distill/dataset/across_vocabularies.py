"""Which of a student's tokens are tokens of a teacher with another vocabulary: by the text that they are.

As in TRL's GOLD, the tokens of an answer are aligned by the bytes of its text. Where one token of the student is the
same span as one token of the teacher, both were drawn from what may follow the same text, and can be compared. Spans
that the two cut otherwise are left to fine-tuning: GOLD multiplies the probabilities of their tokens, which the
teacher's likeliest ones do not always hold.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from distill.models.token_bytes import bytes_of_tokens

NONE = -1
"""In place of a token that the student, or a place that the teacher does not have."""


class AcrossVocabularies:
    """A teacher's tokens and those of a student."""

    def __init__(self, theirs: Mapping[int, str], tokenizer: Any, n_ids: int | None = None) -> None:
        """``theirs``: what the teacher's tokenizer calls each id; ``n_ids``: how many the student has logits of."""
        ids = list(range(min(len(tokenizer), n_ids or len(tokenizer))))
        names = zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True)
        self._ours = bytes_of_tokens({number: name for number, name in names if name})
        self._theirs = bytes_of_tokens(theirs)
        known = {text: number for number, text in self._ours.items()}
        self._same = np.full(max(theirs, default=0) + 1, NONE, np.int32)
        for text, number in {text: number for number, text in self._theirs.items() if text}.items():
            self._same[number] = known.get(text, NONE)  # of several tokens that are the same bytes, one has it

    def same_ids(self, teacher_ids: np.ndarray) -> np.ndarray:
        """Return the ids of the student's tokens that are the same bytes; ``NONE`` for those it does not have."""
        found: np.ndarray = self._same[teacher_ids]
        return found

    def places(self, completion: Sequence[int], answer: Sequence[int], text: str, most_behind: int) -> list[int]:
        """Return where in ``answer`` each token of ``completion`` stands that is one token there, else ``NONE``.

        ``completion``: the student's ids, the end token last, which has none; ``answer``: the teacher's, which end with
        ``text`` but for ``most_behind`` tokens and white space; ``text``: what both write.
        """
        ours = _spans([self._ours.get(token, b"") for token in completion[:-1]], text.encode(), 0)
        theirs = _spans([self._theirs.get(token, b"") for token in answer], text.encode(), most_behind)
        there = {span: place for place, span in enumerate(theirs) if span[1]}
        return [*(there.get(span, NONE) for span in ours), NONE] if ours and there else []


def _spans(tokens: Sequence[bytes], text: bytes, most_behind: int) -> list[tuple[int, bytes]]:
    """Return the byte of ``text`` at which each token begins, and its bytes; none where the tokens are another text."""
    for cut in range(min(most_behind, len(tokens)) + 1):
        whole = b"".join(tokens[:len(tokens) - cut]).rstrip()
        if whole.endswith(text):
            starts = accumulate(map(len, tokens), initial=len(text) - len(whole))
            return list(zip(starts, tokens, strict=False))
    return []
