"""The stage ``dataset``: prompts and responses in; training rows and a list of everything dropped out."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.config.schema import Dataset, Filters, IclDist, Train
from distill.config.sections.base import semantic_fields
from distill.dataset import agreement
from distill.dataset.account import Account, details_of, refuse_no_reasoning, refuse_nothing_left
from distill.dataset.compose import VERSION as COMPOSITION
from distill.dataset.compose import compose_file, waiting_row
from distill.dataset.filters import (
    Filter,
    completion_of,
    filters_of,
    first_finding,
    has_closed_labels,
    read_answer,
)
from distill.dataset.join import joined
from distill.dataset.pool import Pool, add_pool_rows
from distill.dataset.split import split_inputs, split_rows, unsplit_file
from distill.dataset.targets import (
    Targets,
    refuse_without_targets,
    target_details,
    target_inputs,
    targets_of,
)
from distill.dataset.tokens import TOO_LONG, RowEncoder, encoding_inputs
from distill.generation.manifests import read_markers, responses_digest
from distill.parsing import reasoning
from distill.parsing.labels import VERSION as PARSER_VERSION
from distill.prompting.decontaminate import Benchmark
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.kept import kept_icldist
from distill.prompting.pieces import PromptPieces
from distill.run.records import (
    TRAIN,
    Drop,
    ManyAnswersRow,
    Prompt,
    RecordWriter,
    Response,
    TokenizedRow,
    TrainingRow,
)
from distill.run.row_counts import RowCounts
from distill.run.stage import OnChange, Outcome, run_stage

STAGES = ("knowdist", "icldist")
FOLDER = "dataset"
DROPPED = "dropped.parquet"
VERSION = 5
"""Raised when a filter or the form of rows changes, so that no rows of the old way are reused."""
_EXCERPT = 300
_CHUNK = 1000


def build_dataset(
    filters: Filters,
    train: Train,
    student: Path,
    run: Path,
    seed: int,
    parents: Mapping[str, str],
    on_change: OnChange = "stop",
    dataset: Dataset | None = None,
    icldist: IclDist | None = None,
    benchmark: Benchmark | None = None,
) -> Outcome:
    """Filter the teacher's answers and write the rows of both stages, as token ids too, into ``run/dataset``.

    Of ``train`` only what decides the rows matters here: ``keep_reasoning``; ``max_length`` and ``prompt_format``
    (:class:`distill.dataset.tokens.RowEncoder`); ``eval_fraction``, ``fractions`` and whether it is ``unified``
    (:func:`distill.dataset.split.split_rows`). ``student`` is the folder of the student, whose tokenizer it is;
    ``parents`` holds the fingerprints of the stages whose files are read. The responses themselves
    decide, too: where failed prompts were asked again, the rows are made anew. ``icldist`` says what the prompts of
    stage 2 are made of, for :mod:`distill.dataset.compose`, if ``dataset`` asks for it, and whether rows are made of
    the demonstration pool (:mod:`distill.dataset.pool`), of what does not stand in ``benchmark``.

    Rows stand in the order of the prompts, under their ids. The counts are of prompts; what the teacher failed at is
    dropped as ``teacher_failed:<reason>``. The details tell the rows, and the drops by reason, by kind, the rows by
    split, from how many answers reasoning was taken off to be read, how many rows keep it, and the mean number of
    completion tokens, end token included.

    Raises:
        InputError: prompts were asked but no answer is left to train on; reasoning is to be kept and no row has any; a
            filter of the user's own fails; or the tokenizer does not load, or has no chat template where
            ``prompt_format`` needs one.
        RunError: a prompt has no response record, or a response no prompt.
    """
    objectives = {stage: train.objective_of_rows(stage) for stage in STAGES}
    compose = dataset.compose if dataset and dataset.compose.kind == "many" else None
    pool = Pool(icldist, seed, benchmark) if icldist and icldist.pool_rows else None
    inputs = {
        "version": VERSION, "reader": PARSER_VERSION, "parents": dict(parents), "filters": semantic_fields(filters),
        "responses": {stage: responses_of(run, stage) for stage in STAGES},
        "encoding": encoding_inputs(student, train, seed), "split": split_inputs(train, seed),
        **({"keep_reasoning": True} if train.keep_reasoning else {}),
        **target_inputs(run, objectives),
        **({"compose": {"version": COMPOSITION, **semantic_fields(compose)}} if compose else {}),
        **({"pool_rows": pool.inputs()} if pool else {}),
    }

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        encoder = RowEncoder(student, train, seed)
        targets = targets_of(run, objectives, student, encoder)
        pieces = {"icldist": PromptPieces(icldist, load_demonstrations(icldist))} if compose and icldist else {}
        with RecordWriter(folder / DROPPED, Drop) as drops:
            accounts = {stage: _sort_answers(run, stage, filters, train.keep_reasoning, encoder, folder, drops,
                                             targets.get(stage), pieces.get(stage)) for stage in STAGES}
        for stage, account in accounts.items():
            refuse_nothing_left(folder / DROPPED, stage, account)
        if train.keep_reasoning:
            refuse_no_reasoning(folder / DROPPED, accounts.values())
        refuse_without_targets(targets, run)
        kinds = {stage: _kind_of_rows(targets.get(stage), pieces.get(stage)) for stage in STAGES}
        splits = split_rows(folder, kinds, train, seed, by_text=bool(pieces))
        counts, more = [account.row_counts(stage) for stage, account in accounts.items()], {}
        if compose and pieces:
            joined_rows, more["composed"] = compose_file(
                folder / "icldist.parquet", pieces["icldist"], encoder, compose)
            counts.append(joined_rows)
            splits["icldist"][TRAIN] = joined_rows.n_out
        if pool:
            of_pool, more["pool_rows"] = add_pool_rows(pool, [folder / f"{stage}.parquet" for stage in STAGES], encoder,
                                                       kinds["icldist"], folder / DROPPED)
            counts.append(of_pool)
            splits["icldist"][TRAIN] += of_pool.n_out
        return counts, {**details_of(accounts), **target_details(targets), "split": splits, **more}

    return run_stage(run / FOLDER, inputs, work, on_change)


def responses_of(run: Path, stage: str) -> str:
    """Return a digest of the responses that a stage of a run has so far."""
    return responses_digest(read_markers(run / stage / "responses").values())


def _sort_answers(run: Path, stage: str, filters: Filters, keep_reasoning: bool, encoder: RowEncoder, folder: Path,
                  drops: RecordWriter[Drop], targets: Targets | None, pieces: PromptPieces | None) -> Account:
    account, active = Account(), filters_of(filters)
    objections = _disagreements(run, stage, filters, active) if filters.agreement.enabled else {}
    with RecordWriter(unsplit_file(folder, stage), _kind_of_rows(targets, pieces)) as rows:
        for some in _chunks(joined(run, stage)):
            account.reasoned += sum(reasoning.split(response.output).reasoned for _, response in some)
            verdicts = {prompt.id: verdict(active, prompt, response) for prompt, response in some}
            verdicts |= {prompt_id: (agreement.REASON, objections[prompt_id]) for prompt_id, (reason, _) in
                         verdicts.items() if not reason and prompt_id in objections}
            good = [_row(prompt, response, keep_reasoning) for prompt, response in some if not verdicts[prompt.id][0]]
            encoded = dict(zip((row.id for row in good), encoder.encode(good), strict=True))
            for prompt, response in some:
                reason, detail = verdicts[prompt.id]
                row = encoded.get(prompt.id)
                if isinstance(row, TokenizedRow):
                    account.kept[prompt.kind] += 1
                    account.completion_tokens += len(row.input_ids) - row.n_prompt_tokens
                    row = targets.labelled(row, prompt, response) if targets else row
                    rows.write(waiting_row(row, prompt, pieces) if pieces else row)
                    account.rows_with_reasoning += keep_reasoning and reasoning.split(row.completion).reasoned
                    continue
                if row:
                    reason, detail = TOO_LONG, row.detail
                drops.write(Drop(prompt.id, f"dataset/{stage}", reason, detail, response.output[:_EXCERPT]))
                account.drop(prompt.kind, reason)
    return account


def _kind_of_rows(targets: Targets | None, pieces: PromptPieces | None) -> type[TokenizedRow]:
    return ManyAnswersRow if pieces else targets.record if targets else TokenizedRow


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
