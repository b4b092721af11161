"""The stages ``knowdist`` and ``icldist``: ask the teacher every prompt, once, whatever happens meanwhile."""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.config.schema import Teacher
from distill.config.sections.base import semantic_fields
from distill.engines import devices_of_engine
from distill.errors import InputError, RunError
from distill.generation.answer import Job, answer, counts_decide, refuse_overspent
from distill.generation.computed import computed_in, settled_in
from distill.generation.forecast import Forecast
from distill.generation.journal import JOURNAL, Journal, is_damaged, journal_inputs
from distill.generation.markers import is_intact, marker_path, read_marker, read_markers, responses_digest
from distill.generation.pool import processes_for
from distill.generation.retry import reopen_failed
from distill.generation.shards import PromptFile, Shard, plan_shards, shard_inputs
from distill.generation.status import RESPONSES, STAGES, Stage, add_up
from distill.generation.usable import too_many, unusable
from distill.models.tokenization import VERSION as TOKENIZATION
from distill.models.weights import Weights
from distill.run.folder import claim_stage, remove
from distill.run.hashing import fingerprint
from distill.run.markers import MARKER, is_finished, read_done
from distill.run.row_counts import Ledger
from distill.run.stage import OnChange, Outcome, changed_message, run_stage
from distill.runtime.leases import leased

log = logging.getLogger("sentidistill.generation")


def generate(
    stage: Stage,
    prompts_path: Path,
    teacher: Teacher,
    weights: Weights,
    run: Path,
    seed: int,
    on_change: OnChange = "stop",
    *,
    retry_failed: bool = False,
    show: Callable[[Forecast, str], None] | None = None,
) -> Outcome:
    """Have the teacher answer the prompts of a stage into ``run/<stage>/responses``.

    Finished shards are never touched again, but with ``retry_failed`` for those that hold failures, of which just
    these are asked anew. Engines are started only where a shard is pending, in processes of their own. A shard whose
    file was damaged is made anew, and a warning says so. ``show`` is told the forecast after the pilot, and which cap
    of the budget it will meet.

    The outcome's account counts prompts: in, answered, failed by reason; its totals are those of the markers.

    Raises:
        InputError: shards were made from other settings and ``on_change`` is ``stop``;
            the engine refuses its settings; or ``on_change`` is ``keep`` but the prompts themselves have changed.
        ProcessDiedError: the engine kept dying; the same command again goes on from there.
        BudgetError: a cap of the budget was reached, or (ApprovalNeeded) the forecast is to be approved.
        RunError: answers could not be written down; or nothing can be learned from more of them than
            ``teacher.max_unusable``: of the pilot, or of all.
    """
    folder = run / stage
    plan = plan_shards(prompts_path, teacher.shard_size)
    settings = settings_of(stage, teacher, weights.identity, seed)

    def work(_: Path) -> tuple[list[Ledger], dict[str, Any]]:
        responses = folder / RESPONSES
        responses.mkdir(exist_ok=True)
        pending = pending_shards(responses, plan.shards, settings, on_change)
        _remove_leftovers(responses, {shard.name for shard in pending})
        if pending:
            needed = processes_for(teacher, len(pending)) * devices_of_engine(teacher.engine)
            with leased(needed) as lease:
                engine = settled_in(folder, teacher.engine, settings, lease)
                spec = {"folder": str(responses), "prompts": str(prompts_path), "model": str(weights.folder or ""),
                        "engine": engine.model_dump(mode="json"), "settings": settings,
                        "counts_decide": counts_decide(teacher)}
                _mend_journals(responses, prompts_path, pending, settings)
                answer(Job(stage, teacher, run, plan, spec, show), pending)
            _remove_leftovers(responses, set())  # of processes that died meanwhile
        ledgers, details = totals(stage, responses, plan.rows)
        if too_many(details["unusable"], plan.rows, teacher.max_unusable):
            raise unusable(stage, details["unusable"], plan.rows, teacher.max_unusable, (), run)
        return ledgers, {**details, "kept_shards": _n_kept(responses, plan.shards, settings),
                         "computed": computed_in(folder, settings)}

    _reopen_if_damaged(folder)
    if retry_failed:
        refuse_overspent(teacher, run)  # before what is finished is opened again
        claim_stage(folder)
        reopen_failed(folder, plan, settings)
    return run_stage(folder, {"prompts": plan.digest, **settings}, work, on_change, resumable=True,
                     mends=True)


def settings_of(stage: Stage, teacher: Teacher, identity: str, seed: int) -> dict[str, Any]:
    """Return everything but the prompts that determines a stage's responses and their shards, as JSON values."""
    sampling = teacher.sampling.model_dump(mode="json")
    return {
        "model": identity,
        "engine": semantic_fields(teacher.engine),  # its number format as asked for: see distill.generation.computed
        "tokenization": TOKENIZATION,
        "chat_template": {family: getattr(teacher.chat_template, family) for family in STAGES[stage]},
        "sampling": {family: sampling[family] for family in STAGES[stage]},
        "structured": teacher.structured,
        "seed": seed,
        "shard_size": teacher.shard_size,
    }


def pending_shards(responses: Path, shards: Sequence[Shard], settings: Mapping[str, Any],
                   on_change: OnChange) -> list[Shard]:
    """Return the shards that are still to be made; shards of other settings stop, stay or go by ``on_change``.

    Raises:
        InputError: there is a shard of other settings and ``on_change`` is ``stop``, or a shard of other
            prompts and it is ``keep``, which would leave prompts without an answer.
    """
    _remove_foreign(responses, {shard.name for shard in shards}, settings, on_change)
    pending: list[Shard] = []
    for shard in shards:
        path = marker_path(responses, shard.name)
        if not path.exists():
            _see_to_journal(responses, shard, settings, on_change)
            pending.append(shard)
            continue
        marker, inputs = read_marker(path), shard_inputs(shard, dict(settings))
        if marker is not None and marker.fingerprint != fingerprint(inputs):
            kept = on_change == "keep" and marker.inputs["prompts"] == shard.digest
            if not kept and on_change != "discard":
                raise InputError(changed_message(path, marker.inputs, inputs))
            wanted = kept
        else:
            wanted = True
        if marker is not None and wanted and is_intact(responses, shard.name, marker):
            continue
        if wanted:
            log.warning("The shard %s is damaged (its file is not the one its marker was written for); it is made "
                        "again.", path.with_suffix(".parquet"))
        path.unlink()
        pending.append(shard)
    return pending


def _see_to_journal(responses: Path, shard: Shard, settings: Mapping[str, Any], on_change: OnChange) -> None:
    """Delete the journal of an unfinished shard that other settings made, or say so."""
    inputs, now = journal_inputs(responses, shard.name), shard_inputs(shard, dict(settings))
    path = responses / f"{shard.name}{JOURNAL}"
    if on_change == "discard" and is_damaged(responses, shard.name):
        log.warning("The answers in %s are partly damaged; none of them is kept (--discard).", path)
        path.unlink()
        return
    if inputs is None or fingerprint(inputs) == fingerprint(now):
        return
    if on_change == "stop":
        raise InputError(changed_message(path, inputs, now))
    log.warning("The answers in %s are of other settings; of an unfinished shard they are not kept.", path)
    path.unlink()


def _mend_journals(responses: Path, prompts_path: Path, pending: Sequence[Shard], settings: dict[str, Any]) -> None:
    """Leave out of journals what is no answer to a prompt of its shard, before it is counted."""
    begun = [shard for shard in pending if (responses / f"{shard.name}{JOURNAL}").exists()]
    if not begun:
        return
    with contextlib.closing(PromptFile(prompts_path)) as prompts:
        for shard in begun:
            known = {prompt.id for prompt in prompts.load(shard.first, shard.count)}
            Journal(responses, shard.name, shard_inputs(shard, settings), known).close()


def _n_kept(responses: Path, shards: Sequence[Shard], settings: Mapping[str, Any]) -> int:
    """Return how many finished shards were made from other settings, and kept."""
    markers = read_markers(responses)
    return sum(markers[shard.name].fingerprint != fingerprint(shard_inputs(shard, dict(settings))) for shard in shards)


def _remove_leftovers(responses: Path, pending: set[str]) -> None:
    """Delete what a killed process left: half-written files, and journals of shards whose marker stands already."""
    for path in [*responses.glob(".*.tmp"), *responses.glob(f"*{JOURNAL}")]:
        if path.name.removesuffix(JOURNAL) not in pending:
            path.unlink()


def _remove_foreign(responses: Path, names: set[str], settings: Mapping[str, Any], on_change: OnChange) -> None:
    for name, marker in read_markers(responses).items():
        if name in names:
            continue
        path = marker_path(responses, name)
        if on_change != "discard":
            raise InputError(changed_message(path, marker.inputs, {"prompts": "none for this shard", **settings}))
        path.unlink()
        path.with_suffix(".parquet").unlink(missing_ok=True)


def _reopen_if_damaged(folder: Path) -> None:
    """Take the stage's marker away where it or a shard's file is missing or damaged, so that the stage is resumed."""
    if not is_finished(folder):
        return
    responses = folder / RESPONSES
    markers = read_markers(responses)
    try:
        shards = read_done(folder)["details"].get("shards")
    except InputError as error:
        log.warning("%s The shards' own markers say what is there.", error)
        shards = None
    if len(markers) != shards or not all(is_intact(responses, name, one) for name, one in markers.items()):
        claim_stage(folder)
        remove(folder / MARKER)


def totals(stage: str, responses: Path, n_prompts: int) -> tuple[list[Ledger], dict[str, Any]]:
    """Add up a stage's markers: its account in prompts, and its tokens, seconds and number of shards.

    Raises:
        RunError: the markers do not account for every prompt.
    """
    markers = read_markers(responses)
    total = add_up(markers.values())
    if total["n_in"] != n_prompts:
        raise RunError(f"The shards in {responses} account for {total['n_in']} of {n_prompts} prompts. Run the same "
                       "command again; if that does not help, one of the markers there (shard-*.json) was changed: put "
                       "it back from a copy, or delete it alone, and its shard is made again.")
    ledger = Ledger(stage, "prompts", n_in=total["n_in"], n_out=total["n_out"], dropped=total["failures"])
    return [ledger], {"responses": responses_digest(markers.values()), **{key: total[key] for key in (
        "shards", "unusable", "n_prompt_tokens", "n_cached_tokens", "n_output_tokens", "seconds", "tokens_per_second")}}
