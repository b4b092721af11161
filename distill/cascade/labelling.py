"""The student's labels of a sample, kept block by block."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from distill.prediction.blocks import BLOCK, Block, answer_blocks
from distill.prediction.parts import Parts
from distill.prediction.student import Prediction, Student
from distill.run.hashing import fingerprint


def student_labels(student: Student, texts: Sequence[str], folder: Path, processes: int, log: Path) -> list[Prediction]:
    """Return the student's predictions, kept in ``folder`` as they come, so that the same call goes on.

    Raises:
        InputError: the folder holds those of another student or other texts.
        InputError, RunError: as :func:`distill.prediction.blocks.answer_blocks`.
    """
    blocks = [Block(number, list(texts[start:start + BLOCK]), {})
              for number, start in enumerate(range(0, len(texts), BLOCK))]
    identity = {"model": student.identity, "input": fingerprint(list(texts))}
    with Parts.held(folder, identity) as parts, tqdm(total=len(texts), desc="the student labels", unit="text",
                                                     disable=None) as bar:
        def missing() -> Iterator[Block]:
            for block in blocks:
                if parts.has(block.number):
                    bar.update(len(block.texts))
                else:
                    yield block

        def keep(block: Block, predictions: list[Prediction]) -> None:
            parts.write(block.number, predictions)
            bar.update(len(predictions))

        left = missing()
        if (first := next(left, None)) is not None:
            answer_blocks(student, itertools.chain([first], left), keep, processes, log)
        return [one for block in blocks for one in parts.read(block.number, len(block.texts))]
