"""Which of a teacher's answers become rows: each is asked of by the filters, tokenised, and kept or dropped."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from distill.config.schema import Filters
from distill.dataset import agreement
from distill.dataset.account import Account
from distill.dataset.compose import waiting_row
from distill.dataset.filters import (
    Filter,
    completion_of,
    filters_of,
    first_finding,
    has_closed_labels,
    read_answer,
)
from distill.dataset.join import joined
from distill.dataset.targets import Targets
from distill.dataset.tokens import TOO_LONG, RowEncoder
from distill.parsing import reasoning
from distill.prompting.kept import kept_icldist
from distill.prompting.pieces import PromptPieces
from distill.run.records import Drop, ManyAnswersRow, Prompt, RecordWriter, Response, TokenizedRow, TrainingRow

Asked = tuple[Prompt, Response]
_EXCERPT = 300
_CHUNK = 1000


def kind_of_rows(targets: Targets | None, composed: bool) -> type[TokenizedRow]:
    """Return of what kind a stage's rows are; ``composed``: some are to be put together."""
    return ManyAnswersRow if composed else targets.record if targets else TokenizedRow


@dataclass(frozen=True)
class AnswerSorter:
    """Sorts the answers to a stage's prompts: into ``rows``, and what is not trained on into ``drops``.

    Rows are of a kind for :mod:`distill.dataset.compose` where ``composed``. ``made`` are the ids of all rows so far.
    """

    filters: Filters
    keep_reasoning: bool
    encoder: RowEncoder
    rows: RecordWriter[TokenizedRow]
    drops: RecordWriter[Drop]
    composed: bool = False
    made: set[str] = field(default_factory=set)

    def sort(self, run: Path, stage: str, step: str, targets: Targets | None, pieces: PromptPieces | None = None,
             refused: Callable[[Sequence[Asked]], Mapping[str, tuple[str, str]]] = lambda _: {},
             used: Callable[[Prompt], None] = lambda _: None) -> Account:
        """Go through the answers of a stage of ``run``, and return what became of them under ``step``.

        ``pieces`` take the prompts apart that may be put together; without them rows stay as they were asked.
        ``refused`` returns, by the prompt's id, why some answers are not even looked at; ``used`` is told of each
        prompt that became a row.
        """
        account, active = Account(), filters_of(self.filters)
        objections = _disagreements(run, stage, self.filters, active) if self.filters.agreement.enabled else {}
        for some in _chunks(joined(run, stage)):
            account.reasoned += sum(reasoning.split(response.output).reasoned for _, response in some)
            outside = refused(some)
            verdicts = {prompt.id: outside.get(prompt.id) or verdict(active, prompt, response)
                        for prompt, response in some}
            verdicts |= {prompt_id: (agreement.REASON, objections[prompt_id]) for prompt_id, (reason, _) in
                         verdicts.items() if not reason and prompt_id in objections}
            good = [_row(prompt, response, self.keep_reasoning) for prompt, response in some
                    if not verdicts[prompt.id][0]]
            encoded = dict(zip((row.id for row in good), self.encoder.encode(good), strict=True))
            for prompt, response in some:
                reason, detail = verdicts[prompt.id]
                row = encoded.get(prompt.id)
                if isinstance(row, TokenizedRow):
                    account.kept[prompt.kind] += 1
                    account.completion_tokens += len(row.input_ids) - row.n_prompt_tokens
                    row = targets.labelled(row, prompt, response) if targets else row
                    self.rows.write(waiting_row(row, prompt, pieces) if self.composed else row)
                    account.rows_with_reasoning += self.keep_reasoning and reasoning.split(row.completion).reasoned
                    self.made.add(prompt.id)
                    used(prompt)
                    continue
                if row:
                    reason, detail = TOO_LONG, row.detail
                self.drops.write(Drop(prompt.id, step, reason, detail, response.output[:_EXCERPT]))
                account.drop(prompt.kind, reason)
        return account


def _row(prompt: Prompt, response: Response, keep_reasoning: bool) -> TrainingRow:
    closed = has_closed_labels(prompt)
    return TrainingRow(
        prompt.id, prompt.family, prompt.kind, prompt.prompt, completion_of(prompt, response, keep_reasoning),
        prompt.labels if closed else [], closed and prompt.multi_label, prompt.text_id)


def _chunks(pairs: Iterator[tuple[Prompt, Response]]) -> Iterator[list[tuple[Prompt, Response]]]:
    """Yield the pairs some at a time: a tokenizer is many times faster with several texts than with one."""
    while some := list(itertools.islice(pairs, _CHUNK)):
        yield some


def verdict(active: list[Filter], prompt: Prompt, response: Response) -> tuple[str, str]:
    """Return (reason, detail) for which an answer by itself is not trained on; two empty strings for none.

    What a teacher thought before it answered is no part of its answer (:mod:`distill.parsing.reasoning`).
    """
    if response.failure:
        return f"teacher_failed:{response.failure}", response.finish_reason
    said = reasoning.split(response.output)
    if said.cut_off:
        return reasoning.TRUNCATED, f"cut off after {response.n_output_tokens} tokens, before it answered"
    return first_finding(active, prompt, replace(response, output=said.answer)) or ("", "")


def _disagreements(run: Path, stage: str, filters: Filters, active: list[Filter]) -> dict[str, str]:
    """Return the answers of a stage that too few others on the same text agree with; what is dropped votes for none."""
    votes = agreement.Votes(filters.agreement, kept_icldist(run))
    for prompt, response in joined(run, stage):
        if agreement.can_agree(prompt):
            dropped, _ = verdict(active, prompt, response)
            votes.add(prompt, None if dropped else read_answer(prompt, response))
    return votes.objections()
