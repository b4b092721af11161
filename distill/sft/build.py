"""The stage ``sft``: prompts and responses in; training rows and a list of everything dropped out."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.config.schema import Filters, Train
from distill.errors import InputError, RunError
from distill.generation.markers import read_responses
from distill.hashing import file_digest
from distill.ledger import Ledger
from distill.models import load_tokenizer
from distill.records import Drop, Prompt, Response, SftRow, read_records, write_records
from distill.sft import agreement
from distill.sft.filters import Filter, completion_of, filters_of, first_finding
from distill.sft.labels import parse_answer
from distill.stage import OnChange, Outcome, run_stage
from distill.tokenization import encode_completion, encode_prompt

STAGES = ("knowdist", "icldist")
VERSION = 2
"""Raised when a filter or the form of rows changes, so that no rows of the old way are reused."""
TOO_LONG = "too_long_student"
_CHAT_FORMS = {"raw": (False,), "chat": (True,), "mixed": (False, True)}
_TOKENIZER_FILES = ("tokenizer*", "*.jinja", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt")
_EXCERPT = 300


@dataclass
class _Sorted:
    """What became of one stage's prompts."""

    rows: list[SftRow] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    completion_tokens: int = 0


def build_sft(
    filters: Filters,
    train: Train,
    tokenizer_folder: Path,
    run: Path,
    upstream: Mapping[str, str],
    on_change: OnChange = "stop",
) -> Outcome:
    """Filter the teacher's answers and write the training rows of both stages into ``run/sft``.

    Of ``train`` only ``max_length`` and ``prompt_format`` matter here: a row longer than ``max_length``
    tokens of the student (prompt, answer, end token; in ``mixed`` the longer of both forms) is dropped as
    ``too_long_student``, because the trainer would drop or cut it silently. ``tokenizer_folder`` is the
    student's; ``upstream`` holds the fingerprints of the stages whose files are read.

    Rows are sorted by id, which is the prompt's. The accounts ``sft/knowdist`` and ``sft/icldist`` count prompts;
    what the teacher failed at is dropped as ``teacher_failed:<reason>``. The details tell the rows by kind
    and the mean number of completion tokens, end token included.

    Raises:
        InputError: prompts were asked but no answer is left to train on; or the tokenizer does not load, or
            has no chat template where ``prompt_format`` needs one.
        RunError: a prompt has no response record, or a response no prompt.
    """
    inputs = {
        "version": VERSION, "upstream": dict(upstream), "filters": filters.model_dump(mode="json"),
        "max_length": train.max_length, "prompt_format": train.prompt_format,
        "tokenizer": _tokenizer_digests(tokenizer_folder),
    }

    def work(folder: Path) -> tuple[list[Ledger], dict[str, Any]]:
        tokenizer = load_tokenizer(tokenizer_folder)
        if train.prompt_format != "raw" and not tokenizer.chat_template:
            raise InputError(f"train.prompt_format is '{train.prompt_format}', but the student's tokenizer in "
                             f"{tokenizer_folder} has no chat template. Set it to 'raw', or choose another student.")
        parts = {stage: _sort_answers(run, stage, filters, train, tokenizer) for stage in STAGES}
        write_records(folder / "dropped.parquet", Drop, (drop for part in parts.values() for drop in part.drops))
        for stage, part in parts.items():
            write_records(folder / f"{stage}.parquet", SftRow, sorted(part.rows, key=lambda row: row.id))
        for stage, part in parts.items():
            _refuse_nothing_left(folder, stage, part)
        return [_ledger(stage, part) for stage, part in parts.items()], _details(parts)

    return run_stage(run / "sft", inputs, work, on_change)


def _sort_answers(run: Path, stage: str, filters: Filters, train: Train, tokenizer: Any) -> _Sorted:
    part, active = _Sorted(), filters_of(filters)
    objections = _disagreements(run, stage, active) if filters.agreement else {}
    for prompt, response in _joined(run, stage):
        if response.failure:
            reason, detail = f"teacher_failed:{response.failure}", response.finish_reason
        else:
            reason, detail = first_finding(active, prompt, response) or ("", "")
            if not reason and prompt.id in objections:
                reason, detail = agreement.REASON, objections[prompt.id]
        if not reason:
            completion = completion_of(prompt, response)
            n_total, n_completion = _lengths(tokenizer, prompt.prompt, completion, train.prompt_format)
            if n_total <= train.max_length:
                part.rows.append(SftRow(prompt.id, prompt.family, prompt.kind, prompt.prompt, completion))
                part.completion_tokens += n_completion
                continue
            reason, detail = TOO_LONG, f"{n_total} tokens of at most {train.max_length}"
        part.drops.append(Drop(prompt.id, f"sft/{stage}", reason, detail, response.output[:_EXCERPT]))
    return part


def _disagreements(run: Path, stage: str, active: list[Filter]) -> dict[str, str]:
    """Return the answers of a stage that most others on the same text contradict; what is dropped votes for none."""
    prompts, answers = [], {}
    for prompt, response in _joined(run, stage):
        if agreement.asks_one_label(prompt):
            prompts.append(prompt)
            if response.failure or first_finding(active, prompt, response):
                continue
            label = parse_answer(response.output, prompt.labels, multi_label=False)
            if label is not None:
                answers[prompt.id] = label
    return agreement.disagreements(prompts, answers)


def _joined(run: Path, stage: str) -> Iterator[tuple[Prompt, Response]]:
    """Yield every prompt of a stage with its response, in the order of the prompts' file."""
    responses: dict[str, Response] = {}
    folder = run / stage / "responses"
    for response in read_responses(folder):
        if response.prompt_id in responses:
            raise RunError(f"The prompt {response.prompt_id} has two responses in {folder}. {_REBUILD}")
        responses[response.prompt_id] = response
    for prompt in read_records(run / "prompts" / f"{stage}.parquet", Prompt):
        if prompt.id not in responses:
            raise RunError(f"The prompt {prompt.id} has neither a response nor a failure in {folder}. {_REBUILD}")
        yield prompt, responses.pop(prompt.id)
    if responses:
        raise RunError(f"{len(responses)} responses in {folder} belong to no prompt of this run (the first: "
                       f"{min(responses)}). {_REBUILD}")


_REBUILD = "Prompts and responses are not of the same making: run the generation again."


def _lengths(tokenizer: Any, prompt: str, completion: str, prompt_format: str) -> tuple[int, int]:
    """Return the tokens of prompt and completion together, and of the completion; the longest of the forms."""
    completions = [len(encode_completion(tokenizer, prompt, completion, chat)) for chat in _CHAT_FORMS[prompt_format]]
    prompts = [len(encode_prompt(tokenizer, prompt, chat)) for chat in _CHAT_FORMS[prompt_format]]
    return max(a + b for a, b in zip(prompts, completions, strict=True)), max(completions)


def _ledger(stage: str, part: _Sorted) -> Ledger:
    return Ledger(f"sft/{stage}", "prompts", n_in=len(part.rows) + len(part.drops), n_out=len(part.rows),
                  dropped=Counter(drop.reason for drop in part.drops))


def _refuse_nothing_left(folder: Path, stage: str, part: _Sorted) -> None:
    if part.rows or not part.drops:
        return
    reasons = Counter(drop.reason for drop in part.drops).most_common()
    raise InputError(
        f"None of the teacher's {len(part.drops)} answers of stage {stage} is left to train on "
        f"({', '.join(f'{reason}: {count}' for reason, count in reasons)}). They are listed in "
        f"{folder / 'dropped.parquet'}. Use a more capable teacher, raise its max_tokens (truncated) or "
        "train.max_length (too_long_student), or switch single filters off under 'filters'.")


def _details(parts: Mapping[str, _Sorted]) -> dict[str, Any]:
    return {
        "kept_by_kind": {stage: dict(sorted(Counter(row.kind for row in part.rows).items()))
                         for stage, part in parts.items()},
        "mean_completion_tokens": {stage: round(part.completion_tokens / len(part.rows), 1) if part.rows else 0.0
                                   for stage, part in parts.items()},
    }


def _tokenizer_digests(folder: Path) -> dict[str, str]:
    files = {path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()}
    return {path.name: file_digest(path) for path in sorted(files)}
