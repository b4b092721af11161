"""Rows that teach several answers: texts with the teacher's own answers, put together into few-shot rows.

The teacher was asked about each text alone. Behind one head, its texts and answers are the demonstrations of each
other: every answer carries loss, as that of a few-shot prompt of its own would, its end token included. So a row of six
texts teaches six answers, for the tokens that one of them takes with five demonstrations.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from distill.config.sections.dataset import Compose
from distill.dataset.tokens import RowEncoder
from distill.errors import InputError
from distill.models.tokenization import raw_separator
from distill.prompting.pieces import Pieces, PromptPieces
from distill.run.hashing import content_id
from distill.run.records import TRAIN, ManyAnswersRow, Prompt, RecordWriter, TokenizedRow, read_records
from distill.run.row_counts import RowCounts

VERSION = 2
"""Raised when rows are put together, or their texts held out, in another way."""
JOINED = "joined_with_others"
STAYS = -2
"""``question_at`` of rows that are not to be put together; -1 is of those that cannot be taken apart."""
_OPEN = 8  # rows of one format that wait for texts; of more, the fullest is finished
_LEAST_GAP = 2  # tokens: behind an answer its end token is learned, and what follows is not
_CHUNK = 1000


def waiting_row(row: TokenizedRow, prompt: Prompt, pieces: PromptPieces | None) -> ManyAnswersRow:
    """Return a row as it was asked, which says where its question begins; without ``pieces``, that it stays so."""
    same = {field.name: getattr(row, field.name) for field in fields(ManyAnswersRow) if hasattr(row, field.name)}
    return ManyAnswersRow(**same, question_at=pieces.question_at(prompt) if pieces else STAYS)


def compose_file(path: Path, pieces: PromptPieces, encoder: RowEncoder, config: Compose
                 ) -> tuple[RowCounts, dict[str, Any]]:
    """Put the rows of a file (:class:`ManyAnswersRow`) together that are trained on, and write it anew.

    All others stay as they are. Return the account of the rows to train on, and how many rows have how many answers,
    for the details.

    Raises:
        InputError: there are label prompts, and none of them can be taken apart.
    """
    account, sizes, n_labels, n_known = RowCounts("dataset/compose", "rows"), Counter[int](), 0, 0
    with RecordWriter(path, ManyAnswersRow) as rows:  # it takes the place of the old one at its end
        for row in composed(read_records(path, ManyAnswersRow), pieces, encoder, config):
            rows.write(row)
            if row.split == TRAIN:
                n = len(row.gaps) // 2 + 1
                account.n_in += n
                account.n_out += 1
                account.dropped[JOINED] += n - 1
                sizes[n] += 1
                n_labels += bool(row.labels) and row.question_at != STAYS
                n_known += row.question_at >= 0
    if n_labels and not n_known:
        raise InputError(
            "dataset.compose is many, but none of the run's label prompts can be taken apart into texts: they show "
            "demonstrations that prompts.icldist.demonstrations and its tasks do not hold (any more), or layouts whose "
            "demonstrations are not questions with their answers. Put the files back that the prompts were made "
            "with, or set dataset.compose to asked.")
    return account, {"answers": account.n_in, "rows": account.n_out,
                     "rows_by_answers": {str(n): count for n, count in sorted(sizes.items())}}


def composed(rows: Iterator[ManyAnswersRow], pieces: PromptPieces, encoder: RowEncoder, config: Compose
             ) -> Iterator[ManyAnswersRow]:
    """Yield rows as they are, or put together; memory holds the rows that wait for texts.

    Only rows to train on with one kind, list of labels and head are put together, those with distributions of the
    teacher's apart from those without; no text twice; not beyond the encoder's limit. A text that found no others stays
    as it was asked. The rows' order decides which come together.
    """
    waiting: dict[tuple[Any, ...], list[_Open]] = {}
    while some := list(islice(rows, _CHUNK)):
        found = {row.id: of for row in some if (of := _joinable(row, pieces))}
        questions = {row.id: row.prompt[row.question_at:] for row in some if row.id in found}
        ids = dict(zip(questions, encoder.encode_following(
            [found[key].tail + question for key, question in questions.items()]), strict=True)) if questions else {}
        for row in some:
            if row.id not in found or len(ids[row.id]) < _LEAST_GAP:
                yield row
                continue
            key = row.family, row.kind, tuple(row.labels), row.multi_label, bool(row.label_logprobs), _kept(row)
            rows_open = waiting.setdefault(key, [])
            one = next((one for one in rows_open if one.takes(row, questions[row.id], ids[row.id])), None)
            if one is None:
                rows_open.append(one := _Open(found[row.id], encoder.limit))
                one.begin(row, questions[row.id], encoder)
            else:
                one.add(row, questions[row.id], ids[row.id])
            if len(one.rows) == config.texts_per_row or len(rows_open) > _OPEN:
                full = max(rows_open, key=lambda item: len(item.rows))
                rows_open.remove(full)
                yield full.row()
    for rows_open in waiting.values():
        for one in rows_open:
            yield one.row()


def _joinable(row: ManyAnswersRow, pieces: PromptPieces) -> Pieces | None:
    return pieces.of(row.kind, row.labels) if row.split == TRAIN and row.question_at >= 0 else None


class _Open:
    """A row that more texts may be put into."""

    def __init__(self, pieces: Pieces, limit: int) -> None:
        self._pieces, self._limit = pieces, limit
        self.rows: list[ManyAnswersRow] = []
        self._text_ids: set[str] = set()
        self._questions: set[str] = set()
        self._prompt, self._first = "", 0
        self._ids: list[int] = []
        self._gaps: list[int] = []

    def begin(self, row: ManyAnswersRow, question: str, encoder: RowEncoder) -> None:
        """Take the first text: without the demonstrations it was asked with, unless these alone name the labels."""
        if self._pieces.names_labels:
            self._prompt = self._pieces.head + question
            self._ids = encoder.encode_prompt(self._prompt)
        else:
            self._prompt, self._ids = row.prompt, row.input_ids[:row.n_prompt_tokens]
        self._first = len(self._ids)
        self._take(row, question)

    def takes(self, row: ManyAnswersRow, question: str, ids: Sequence[int]) -> bool:
        """Say whether a text may come into this row, too."""
        if row.text_id in self._text_ids or question in self._questions:
            return False
        longest = max(map(len, [_answer(row), *row.label_ids]))
        return len(self._ids) + len(_answer(self.rows[-1])) - 1 + len(ids) + longest <= self._limit

    def add(self, row: ManyAnswersRow, question: str, ids: Sequence[int]) -> None:
        """Take another text, the ids of whose question are those behind an answer."""
        last = self.rows[-1]
        self._prompt += raw_separator(self._prompt) + last.completion + self._pieces.tail + question
        self._ids = [*self._ids, *_answer(last)[:-1]]
        self._gaps.append(len(self._ids))
        self._ids += ids
        self._gaps.append(len(self._ids))
        self._take(row, question)

    def _take(self, row: ManyAnswersRow, question: str) -> None:
        self.rows.append(row)
        self._text_ids.add(row.text_id)
        self._questions.add(question)

    def row(self) -> ManyAnswersRow:
        """Return the row; the only text of one, as it was asked."""
        last = self.rows[-1]
        if len(self.rows) == 1:
            return last
        return replace(
            last, id=content_id("composed", *(row.id for row in self.rows)), prompt=self._prompt,
            input_ids=[*self._ids, *_answer(last)], n_prompt_tokens=self._first, gaps=self._gaps,
            text_ids=[row.text_id for row in self.rows],
            label_logprobs=[value for row in self.rows for value in row.label_logprobs], **_likeliest(self.rows),
            question_at=len(self._prompt) - len(last.prompt) + last.question_at)


def _kept(row: ManyAnswersRow) -> int:
    """Return how many of the teacher's likeliest tokens are kept at a token; 0 without any."""
    return len(row.top_ids) // max(1, len(row.rest_logprobs))


def _likeliest(rows: Sequence[ManyAnswersRow]) -> dict[str, Any]:
    """Return the likeliest tokens at all learned tokens of rows that keep equally many."""
    if not (k := _kept(rows[0])):
        return {}
    found: dict[str, list[np.ndarray]] = {"top_ids": [], "top_logprobs": [], "rest_logprobs": []}
    for row in rows:
        n, first = len(_answer(row)), row.top_first
        around = first, n - first - len(row.rest_logprobs)
        wide = tuple(k * count for count in around)
        found["top_ids"].append(np.pad(np.asarray(row.top_ids, np.int32), wide))
        found["top_logprobs"].append(np.pad(np.asarray(row.top_logprobs, np.float16), wide))
        found["rest_logprobs"].append(np.pad(np.asarray(row.rest_logprobs, np.float16), around,
                                             constant_values=np.nan))
    return {"top_first": 0, **{name: np.concatenate(parts) for name, parts in found.items()}}


def _answer(row: TokenizedRow) -> list[int]:
    return row.input_ids[row.n_prompt_tokens:]
