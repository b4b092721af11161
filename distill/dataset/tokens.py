"""Rows to token ids, once for all that comes after; and the one judge of rows that are too long."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from distill.config.schema import Train
from distill.errors import InputError
from distill.models import context_length, load_tokenizer
from distill.models.tokenization import VERSION as TOKENIZATION
from distill.models.tokenization import encode_continuations, encode_pairs, encode_prompt, raw_separator
from distill.run.hashing import derived_rng, file_digest
from distill.run.records import TokenizedRow, TrainingRow

TOO_LONG = "too_long_student"
_CHAT_FORMS = {"raw": (False,), "chat": (True,), "mixed": (False, True)}
_FIELDS = tuple(field.name for field in fields(TrainingRow))
_TOKENIZER_FILES = ("tokenizer*", "*.jinja", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt")


@dataclass(frozen=True)
class TooLong:
    """A row that cannot be trained on whole."""

    detail: str


class RowEncoder:
    """The student's tokenizer, in the forms of ``train.prompt_format``."""

    def __init__(self, student: Path, train: Train, seed: int) -> None:
        """Load the tokenizer of the model in the folder ``student``; ``seed`` draws the forms of ``mixed``.

        Raises:
            InputError: it does not load, or has no chat template where ``train.prompt_format`` needs one.
        """
        self.tokenizer, self._format, self._seed = load_tokenizer(student), train.prompt_format, seed
        self._limit = min(train.max_length, context_length(student))
        self._labels: dict[tuple[str, tuple[str, ...], bool], list[list[int]]] = {}
        if train.prompt_format != "raw" and not self.tokenizer.chat_template:
            raise InputError(f"train.prompt_format is '{train.prompt_format}', but the student's tokenizer in "
                             f"{student} has no chat template. Set it to 'raw', or choose another student.")

    def encode(self, rows: Sequence[TrainingRow]) -> list[TokenizedRow | TooLong]:
        """Return each row with its token ids, or how it is too long: the trainer would drop or cut it silently.

        A row may have ``train.max_length`` tokens (prompt, answer, end token), and no more than the student takes; in
        ``mixed`` the longer of both forms counts. Many rows at once are many times faster than each alone.

        Raises:
            InputError: a row has no prompt or no completion.
        """
        for number, row in enumerate(rows, 1):
            for part in ("prompt", "completion"):
                if not getattr(row, part).strip():
                    raise InputError(f"Row {number} (id {row.id}, {row.family}, {row.kind}) has no {part}, so there is "
                                     "nothing to learn from it. Remove such rows.")
        return [row if longest <= self._limit else TooLong(f"{longest} tokens of at most {self._limit}")
                for row, longest in encode_rows(rows, self.tokenizer, self._format, self._seed)]

    @property
    def limit(self) -> int:
        """Tokens that a row may have."""
        return self._limit

    def encode_prompt(self, prompt: str) -> list[int]:
        """Return the ids of a raw prompt."""
        return encode_prompt(self.tokenizer, prompt, chat=False)

    def encode_following(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of texts as they stand behind an answer in a raw prompt."""
        return encode_continuations(self.tokenizer, texts, chat=False)

    def encode_labels(self, row: TokenizedRow) -> list[list[int]]:
        """Return each label of a row as its answer, end token included, in the row's form.

        None where one of them is too long behind its prompt, or two have the same ids.
        """
        chat = is_chat(self._format, self._seed, row.id)
        key = raw_separator(row.prompt), tuple(row.labels), chat
        if key not in self._labels:
            start = "x:" if key[0] == " " else "x"
            self._labels[key] = [ids for _, ids in encode_pairs(
                self.tokenizer, [(start, label) for label in row.labels], chat)]
        found = self._labels[key]
        fits = row.n_prompt_tokens + max(map(len, found), default=0) <= self._limit
        return found if fits and len(set(map(tuple, found))) == len(found) else []


def is_chat(prompt_format: str, seed: int, row_id: str) -> bool:
    """Say whether a row is in chat form, else raw; with ``mixed``, that is drawn from (seed, row id)."""
    return prompt_format == "chat" or (
        prompt_format == "mixed" and derived_rng(seed, row_id, "prompt_format").random() < 0.5)


def encode_rows(rows: Sequence[TrainingRow], tokenizer: Any, prompt_format: str, seed: int
                ) -> list[tuple[TokenizedRow, int]]:
    """Return each row with its token ids, and the number of tokens of the longest form it may have.

    With ``mixed``, raw or chat form is drawn for each row from (seed, row id).
    """
    pairs = [(row.prompt, row.completion) for row in rows]
    forms = {chat: encode_pairs(tokenizer, pairs, chat) for chat in _CHAT_FORMS[prompt_format]}
    found = []
    for place, row in enumerate(rows):
        prompt, completion = forms[is_chat(prompt_format, seed, row.id)][place]
        same = {name: getattr(row, name) for name in _FIELDS}
        longest = max(sum(map(len, encoded[place])) for encoded in forms.values())
        found.append((TokenizedRow(**same, input_ids=prompt + completion, n_prompt_tokens=len(prompt)), longest))
    return found


def encoding_inputs(student: Path, train: Train, seed: int) -> dict[str, Any]:
    """Return what decides the token ids and the lengths of rows, for the fingerprint of a stage."""
    files = {path for pattern in _TOKENIZER_FILES for path in student.glob(pattern) if path.is_file()}
    return {"max_length": train.max_length, "prompt_format": train.prompt_format, "seed": seed,
            "context": context_length(student), "tokenization": TOKENIZATION,
            "tokenizer": {path.name: file_digest(path) for path in sorted(files)}}
