"""One answer in the making, and when it is whole."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from distill.engines.base import Sampling
from distill.engines.first_line import first_line_end
from distill.engines.label_tree import LabelTree


@dataclass
class Row:
    """One answer in the making. ``tokens`` includes the token that ended it; ``reason`` is empty while it runs.

    ``opening``: what of the prompt belongs to the answer (:class:`distill.engines.encoding.Encoded`). ``tree``: the
    labels that are to be scored, and ``label_logprobs`` how likely they are; ``top``: of each token of the answer, the
    ``top_k`` likeliest ones and their log-probabilities.
    """

    prompt: list[int]
    sampling: Sampling
    seed: int
    index: int = 0
    opening: str = ""
    tree: LabelTree | None = None
    label_logprobs: tuple[float, ...] = ()
    top_k: int = 0
    top: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    reason: str = ""
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget the answer so far, and begin with the same random numbers."""
        self.tokens, self.reason, self.top = [], "", []
        if self.sampling.temperature > 0:
            self.generator = torch.Generator().manual_seed(self.seed)

    @property
    def max_length(self) -> int:
        """The tokens of prompt and longest answer together, or of prompt and labels."""
        return len(self.prompt) + max(self.sampling.max_tokens, len(self.tree.tokens) if self.tree else 0)

    @property
    def position(self) -> int:
        """The position of the newest token, which no forward pass has seen yet."""
        return len(self.prompt) + len(self.tokens) - 1

    def append(self, token: int, tokenizer: Any, end_ids: Sequence[int]) -> None:
        """Add a token and say in ``reason`` whether it ends the answer: ``stop`` or ``length``."""
        self.tokens.append(token)
        if token in end_ids or self._stopped(tokenizer):
            self.reason = "stop"
        elif len(self.tokens) >= self.sampling.max_tokens:
            self.reason = "length"

    def _stopped(self, tokenizer: Any) -> bool:
        stop = (*self.sampling.stop, "\n") if self.sampling.first_line else self.sampling.stop
        if not stop:
            return False
        # A stop string can begin in the middle of a token, and a character can take up to four tokens.
        tail = _text(tokenizer, self.tokens[-4 * max(map(len, stop)) - 4:])
        if any(string in tail for string in self.sampling.stop):
            return True
        if not self.sampling.first_line or "\n" not in tail:
            return False
        return first_line_end(self.opening + _text(tokenizer, self.tokens)) is not None


def _text(tokenizer: Any, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
