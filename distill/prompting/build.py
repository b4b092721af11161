"""The stage that turns a corpus into the teacher's prompts."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from distill.config.schema import Prompts
from distill.errors import InputError
from distill.hashing import content_id, file_digest, fingerprint, ids_fingerprint
from distill.ledger import Ledger
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.draft import Draft
from distill.prompting.icldist import icldist_drafts
from distill.prompting.knowdist import knowdist_drafts
from distill.prompting.length import Limits, Tally, fit_prompts
from distill.prompting.library import prompt_files_digest
from distill.prompting.natural_tasks import choose_tasks, general_drafts, task_files
from distill.records import Drop, Prompt, Text, read_records, write_records
from distill.resources import locate
from distill.stage import OnChange, Outcome, run_stage

FOLDER = "prompts"
VERSION = 1
"""Raised when prompts are built in another way, so that no prompts of the old way are reused."""


def build_prompts(
    config: Prompts, texts: Sequence[Text], seed: int, run: Path, limits: Limits,
    inputs_extra: Mapping[str, Any], on_change: OnChange = "stop",
) -> Outcome:
    """Write ``run/prompts``: knowdist.parquet, icldist.parquet (ICLDist and general tasks) and dropped.parquet.

    ``inputs_extra`` names what else decides the result, such as the tokenizers behind ``limits``. There is
    one account a family: drafts looked at, prompts kept, drops by reason. The details say, for each family,
    how many prompts were asked for and built, how many of each kind, the mean number of demonstrations, how
    many were shortened, and which natural tasks were left out and why.

    Raises:
        InputError: bad demonstration pool or task files; no prompt of a family could be built.
    """
    inputs = {
        "version": VERSION, "prompts": config.model_dump(mode="json"), "seed": seed, "limits": limits.to_json(),
        "texts": ids_fingerprint([content_id(text.id, text.text) for text in texts]),
        "prompt_files": prompt_files_digest(), **_data_digests(config), **inputs_extra}
    return run_stage(run / FOLDER, inputs, lambda folder: _build(config, texts, seed, limits, folder), on_change)


def read_prompts(run: Path, stage: Literal["knowdist", "icldist"]) -> list[Prompt]:
    """Return a training stage's prompts: those of KnowDist, or those of ICLDist and the general tasks."""
    return list(read_records(run / FOLDER / f"{stage}.parquet", Prompt))


def _data_digests(config: Prompts) -> dict[str, str]:
    digests: dict[str, str] = {}
    if config.icldist.samples:
        pool = locate(config.icldist.demonstrations)
        digests["demonstrations"] = file_digest(pool) if pool.is_file() else "missing"
    if config.general.enabled and config.general.samples:
        digests["natural_tasks"] = fingerprint({path.name: file_digest(path) for path in task_files(config.general)})
    return digests


def _build(
    config: Prompts, texts: Sequence[Text], seed: int, limits: Limits, folder: Path
) -> tuple[list[Ledger], dict[str, Any]]:
    seen: set[str] = set()
    tallies: dict[str, Tally] = {}
    details: dict[str, Any] = {}

    def fitted(family: str, drafts: Iterator[Draft], wanted: int) -> Iterator[Prompt]:
        tally = tallies[family] = Tally()
        yield from fit_prompts(drafts, limits, wanted, seen, tally)
        _refuse_nothing(family, wanted, tally)
        details[family] = _describe(wanted, tally)

    def stage_two() -> Iterator[Prompt]:
        if config.icldist.samples:
            pool = load_demonstrations(config.icldist)
            yield from fitted("icldist", icldist_drafts(texts, pool, config.icldist, seed), config.icldist.samples)
        if config.general.enabled and config.general.samples:
            chosen = choose_tasks(config.general, seed)
            drafts = general_drafts(chosen.tasks, config.general, seed)
            yield from fitted("general", drafts, config.general.samples)
            details["general"]["tasks_left_out"] = dict(sorted(chosen.left_out.items()))

    stage_one = fitted("knowdist", knowdist_drafts(texts, config.knowdist, seed), config.knowdist.samples)
    write_records(folder / "knowdist.parquet", Prompt, stage_one if config.knowdist.samples else ())
    write_records(folder / "icldist.parquet", Prompt, stage_two())
    write_records(folder / "dropped.parquet", Drop, (drop for tally in tallies.values() for drop in tally.drops))
    if {"knowdist", "icldist"} <= set(tallies):
        details["texts_in_both_stages"] = len(tallies["knowdist"].text_ids & tallies["icldist"].text_ids)
    return [_ledger(family, tally) for family, tally in tallies.items()], details


def _refuse_nothing(family: str, wanted: int, tally: Tally) -> None:
    if tally.n_out:
        return
    if not tally.n_in:
        raise InputError(f"No {family} prompt could be built, because there are no texts to build it from. "
                         f"Give the corpus more texts, or set prompts.{family}.samples to 0.")
    reasons = ", ".join(f"{reason}: {count}" for reason, count in Counter(d.reason for d in tally.drops).items())
    raise InputError(f"None of {tally.n_in} {family} prompts could be used ({reasons}; the first has "
                     f"{tally.drops[0].detail}). Raise train.max_length or the teacher's max_model_len, lower "
                     f"teacher.sampling.{family}.max_tokens, or shorten the texts with corpus.clean.max_chars.")


def _describe(wanted: int, tally: Tally) -> dict[str, Any]:
    return {"asked": wanted, "built": tally.n_out, "shortened": tally.shortened,
            "mean_demonstrations": round(tally.demonstrations / tally.n_out, 3),
            "texts": len(tally.text_ids), "kinds": dict(sorted(tally.kinds.items()))}


def _ledger(family: str, tally: Tally) -> Ledger:
    dropped = Counter(drop.reason for drop in tally.drops)
    return Ledger(f"prompts/{family}", "prompts", tally.n_in, tally.n_out, dropped)
