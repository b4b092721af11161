"""ICLDist label prompts taken apart again, so that their texts can be put together in other ways."""

from collections.abc import Sequence
from dataclasses import dataclass

from distill.config.prompt_schema import MINIMIZED, IclDistPrompts
from distill.config.schema import IclDist
from distill.models.tokenization import raw_separator
from distill.prompting.demonstrations import Demonstration
from distill.prompting.icldist import label_variants
from distill.prompting.template import around
from distill.run.records import Prompt

Format = tuple[str, tuple[str, ...]]
"""``Prompt.kind`` and the list of labels."""


@dataclass(frozen=True)
class Pieces:
    """What prompts of one format and label set have in common.

    ``head`` stands before the demonstrations, ``tail`` behind an answer that is not the last. ``names_labels``: the
    head says which labels there are; else the demonstrations alone do.
    """

    head: str
    tail: str
    names_labels: bool
    question: tuple[str, str]
    blocks: dict[str, list[str]]
    block_key: int


class PromptPieces:
    """The formats of a run's ICLDist label prompts, by kind and labels."""

    def __init__(self, config: IclDist, pool: Sequence[Demonstration]) -> None:
        """``pool``: the demonstrations that the prompts show, or more."""
        prompts = config.prompts()
        blocks: dict[Format, set[str]] = {}
        heads: dict[Format, str] = {}
        for variant in label_variants(config, pool):
            key = f"{variant.task}/{variant.strategy}", variant.labels
            heads[key] = variant.head
            blocks.setdefault(key, set()).update(variant.blocks.values())
        self._known = {key: pieces for key, head in heads.items()
                       if (pieces := _pieces(prompts, key[0], head, blocks[key]))}

    def of(self, kind: str, labels: Sequence[str]) -> Pieces | None:
        """Return what prompts of a format have in common; None where it is none of the run's label formats."""
        return self._known.get((kind, tuple(labels)))

    def question_at(self, prompt: Prompt) -> int:
        """Return where in a prompt the question begins, in characters; -1 where that cannot be told."""
        pieces = self.of(prompt.kind, prompt.labels)
        if pieces is None or not prompt.prompt.startswith(pieces.head):
            return -1
        return _behind(prompt.prompt, len(pieces.head), prompt.n_demonstrations, pieces)


def _behind(prompt: str, at: int, count: int, pieces: Pieces) -> int:
    """Return where a question begins that ``count`` demonstrations stand before; -1 where none does.

    The text of one demonstration may begin as another goes on: each that fits is tried.
    """
    before, after = pieces.question
    if not count:
        fits = len(prompt) - at >= len(before) + len(after) and prompt.startswith(before, at) and prompt.endswith(after)
        return at if fits else -1
    for block in pieces.blocks.get(prompt[at:at + pieces.block_key], ()):
        if prompt.startswith(block, at):
            found = _behind(prompt, at + len(block), count - 1, pieces)
            if found >= 0:
                return found
    return -1


def _pieces(prompts: IclDistPrompts, kind: str, head: str, blocks: set[str]) -> Pieces | None:
    """Return the pieces of a format; None where its demonstrations are not its questions with their answers."""
    task, _, strategy = kind.partition("/")
    layout = prompts.layout_of(task)
    question = around(layout.question, "Text")
    before, _, rest = layout.demonstration.partition("{Text}")
    shown, _, tail = rest.partition("{Answer}")
    if before != question[0] or not question[1].strip() or shown != question[1] + raw_separator(question[1]):
        return None
    size = min(map(len, blocks), default=1)
    by_start: dict[str, list[str]] = {}
    for block in sorted(blocks):
        by_start.setdefault(block[:size], []).append(block)
    return Pieces(head, tail, strategy != MINIMIZED, question, by_start, size)
