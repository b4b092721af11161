"""The stage ``dataset``: prompts and responses in; training rows and a list of everything dropped out."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from distill.config.schema import Dataset, Filters, IclDist, Train
from distill.config.sections.base import semantic_fields
from distill.dataset.account import Account, details_of, refuse_no_reasoning, refuse_nothing_left
from distill.dataset.answers import AnswerSorter, kind_of_rows
from distill.dataset.compose import VERSION as COMPOSITION
from distill.dataset.compose import compose_file
from distill.dataset.other_runs import PROMPTS, OtherAnswers, open_other_runs, other_inputs
from distill.dataset.pool import Pool, add_pool_rows
from distill.dataset.split import split_inputs, split_rows, unsplit_file
from distill.dataset.targets import refuse_without_targets, target_details, target_inputs, targets_of
from distill.dataset.tokens import RowEncoder, encoding_inputs
from distill.generation.manifests import read_markers, responses_digest
from distill.parsing.labels import VERSION as PARSER_VERSION
from distill.prompting.decontaminate import Benchmark
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.pieces import PromptPieces
from distill.run.records import TRAIN, Drop, OtherPrompt, RecordWriter
from distill.run.row_counts import RowCounts
from distill.run.stage import OnChange, Outcome, run_stage

STAGES = ("knowdist", "icldist")
FOLDER = "dataset"
DROPPED = "dropped.parquet"
VERSION = 5
"""Raised when a filter or the form of rows changes, so that no rows of the old way are reused."""


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
    the demonstration pool (:mod:`distill.dataset.pool`), of what does not stand in ``benchmark``. Rows of the runs
    that ``dataset`` names follow those of the run's own answers (:mod:`distill.dataset.other_runs`).

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
    others = open_other_runs(dataset.other_runs if dataset else [], objectives, run)
    inputs = {
        "version": VERSION, "reader": PARSER_VERSION, "parents": dict(parents), "filters": semantic_fields(filters),
        "responses": {stage: responses_of(run, stage) for stage in STAGES},
        "encoding": encoding_inputs(student, train, seed), "split": split_inputs(train, seed),
        **({"keep_reasoning": True} if train.keep_reasoning else {}),
        **target_inputs(run, objectives),
        **({"compose": {"version": COMPOSITION, **semantic_fields(compose)}} if compose else {}),
        **({"pool_rows": pool.inputs()} if pool else {}),
        **({"other_runs": other_inputs(others, objectives, benchmark)} if others else {}),
    }

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        encoder = RowEncoder(student, train, seed)
        targets = targets_of(run, objectives, student, encoder)
        pieces = {"icldist": PromptPieces(icldist, load_demonstrations(icldist))} if compose and icldist else {}
        kinds = {stage: kind_of_rows(targets.get(stage), stage in pieces) for stage in STAGES}
        elsewhere = OtherAnswers(others, objectives, student, encoder, benchmark)
        accounts = dict[str, Account]()
        with ExitStack() as files:
            drops = files.enter_context(RecordWriter(folder / DROPPED, Drop))
            prompts = files.enter_context(RecordWriter(folder / PROMPTS, OtherPrompt)) if others else None
            for stage in STAGES:
                with RecordWriter(unsplit_file(folder, stage), kinds[stage]) as rows:
                    sorter = AnswerSorter(filters, train.keep_reasoning, encoder, rows, drops, stage in pieces)
                    accounts[stage] = sorter.sort(run, stage, f"{FOLDER}/{stage}", targets.get(stage),
                                                  pieces.get(stage))
                    if prompts:
                        elsewhere.sort(stage, sorter, prompts)
        for stage, account in accounts.items():
            if not any(one["rows"] for one in elsewhere.details if one["stage"] == stage):
                refuse_nothing_left(folder / DROPPED, stage, account)
        accounts |= elsewhere.accounts
        if train.keep_reasoning:
            refuse_no_reasoning(folder / DROPPED, accounts.values())
        targets |= elsewhere.targets
        refuse_without_targets(targets, run)
        splits = split_rows(folder, kinds, train, seed, by_text=bool(pieces or others))
        counts = [account.row_counts(stage) for stage, account in accounts.items()]
        more: dict[str, Any] = {"other_runs": elsewhere.details} if others else {}
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
