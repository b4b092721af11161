"""Rows of stage 2 as the dataset stage has them before and after they are put together."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from distill.config.schema import IclDist, Train
from distill.config.sections.dataset import Compose
from distill.dataset.compose import compose_file, waiting_row
from distill.dataset.split import split_rows, unsplit_file
from distill.dataset.tokens import RowEncoder
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.icldist import icldist_candidates
from distill.prompting.labels import answer_text
from distill.prompting.pieces import PromptPieces
from distill.run.hashing import content_id
from distill.run.records import (
    LabelRow,
    ManyAnswersRow,
    Prompt,
    Text,
    TokenizedRow,
    TopRow,
    TrainingRow,
    write_records,
)
from distill.run.row_counts import RowCounts

CONFIG = IclDist(samples=100, prompts_per_text=3, max_demonstrations=3)
POOL = load_demonstrations(CONFIG)
PIECES = PromptPieces(CONFIG, POOL)


def prompts_of(texts: Sequence[str], seed: int = 42) -> list[Prompt]:
    """Return the prompts that are asked about texts."""
    records = [Text(content_id(text), text, "d", "s") for text in texts]
    return [candidate.render() for candidate in icldist_candidates(records, POOL, CONFIG, seed)]


def rows_of(prompts: Sequence[Prompt], encoder: RowEncoder, distributions: bool = False,
            top: Callable[[TokenizedRow], TopRow] | None = None) -> list[ManyAnswersRow]:
    """Return the rows that prompts become with answers drawn from their labels.

    ``distributions``: over the labels of those that one answers; ``top``: of the others, with their likeliest tokens.
    """
    found = []
    for prompt in prompts:
        drawn = random.Random(prompt.id)
        said = answer_text([drawn.choice(prompt.labels)], prompt.multi_label)
        (row,) = encoder.encode([TrainingRow(prompt.id, prompt.family, prompt.kind, prompt.prompt, said, prompt.labels,
                                             prompt.multi_label, prompt.text_id)])
        if isinstance(row, TokenizedRow):
            if distributions and not prompt.multi_label:
                row = LabelRow(**asdict(row), label_ids=encoder.encode_labels(row),
                               label_logprobs=[-drawn.random() for _ in prompt.labels])
            if top and prompt.multi_label:
                row = top(row)
            found.append(waiting_row(row, prompt, PIECES))
    return found


def compose(rows: Sequence[ManyAnswersRow], folder: Path, encoder: RowEncoder, train: Train, texts_per_row: int = 6
            ) -> tuple[Path, RowCounts]:
    """Split rows and put those that are trained on together; return their file and account."""
    write_records(unsplit_file(folder, "icldist"), ManyAnswersRow, rows)
    split_rows(folder, {"icldist": ManyAnswersRow}, train, 42, by_text=True)
    path = folder / "icldist.parquet"
    return path, compose_file(path, PIECES, encoder, Compose(kind="many", texts_per_row=texts_per_row))[0].check()
