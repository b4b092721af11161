"""The stages ``knowdist`` and ``icldist``: ask the teacher every prompt, once, whatever happens meanwhile."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.config.schema import Teacher
from distill.config.sections.base import semantic_fields
from distill.errors import RunError
from distill.generation.answer import Job, answer
from distill.generation.budget import Budget, counts_decide
from distill.generation.computed import computed_in, resolve_dtype_in
from distill.generation.forecast import Forecast
from distill.generation.label_logprobs import LABELS
from distill.generation.manifests import read_markers, responses_digest
from distill.generation.plan import Shard, plan_shards, shard_inputs
from distill.generation.resume import mend_journals, pending_shards, remove_leftovers, reopen_failed, reopen_if_damaged
from distill.generation.sidecar import lacking_of
from distill.generation.slots import processes_for
from distill.generation.status import RESPONSES, STAGES, Stage, add_up
from distill.generation.top_logprobs import refuse_more_than_vocabulary, tell_of_later, wanted_sidecars
from distill.generation.validity import too_many, unusable_error
from distill.models.tokenization import VERSION as TOKENIZATION
from distill.models.weights import Weights
from distill.run.adoption import essence, made_by_one
from distill.run.folder import claim_stage
from distill.run.hashing import fingerprint
from distill.run.row_counts import RowCounts
from distill.run.stage import OnChange, Outcome, run_stage, take_over
from distill.runtime.leases import leased

VERSION = 1  # raised when the same prompts and settings would be answered otherwise


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
    file was damaged is made anew, and a warning says so. With ``teacher.logprobs``, finished shards get what they lack
    of it, beside their answers. ``show`` is told the forecast after the pilot, and which cap of the budget it will
    meet.

    The outcome's account counts prompts: in, answered, failed by reason; its totals are those of the markers.

    Raises:
        InputError: shards were made from other settings and ``on_change`` is ``stop``;
            ``teacher.logprobs.top_k`` is more than the teacher's vocabulary; the engine refuses its settings; or
            ``on_change`` is ``keep`` but the prompts themselves have changed.
        ProcessDiedError: the engine kept dying; the same command again goes on from there.
        BudgetError: a cap of the budget was reached, or (ApprovalNeeded) the forecast is to be approved.
        RunError: answers could not be written down; or nothing can be learned from more of them than
            ``teacher.max_unusable``: of the pilot, or of all.
    """
    folder = run / stage
    plan = plan_shards(prompts_path, teacher.shard_size)
    settings = settings_of(stage, teacher, weights.identity, seed)
    sidecars = wanted_sidecars(teacher.logprobs, stage)
    refuse_more_than_vocabulary(teacher.logprobs.top_k, weights.folder)
    # A forecast and its approval are true of these prompts with these settings.
    budget = Budget(teacher, run, stage, fingerprint({"prompts": plan.digest, **settings}))

    def work(_: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        responses = folder / RESPONSES
        responses.mkdir(exist_ok=True)
        pending = pending_shards(responses, plan.shards, settings, on_change)
        lacking = lacking_of(responses, plan.shards, settings, sidecars)
        tell_of_later(responses, lacking)
        job = Job(stage, teacher, run, plan, prompts_path, sidecars, lacking, show)
        pending += [shard for shard in plan.shards if shard.name in lacking]
        remove_leftovers(responses, {shard.name for shard in pending})
        if pending:
            needed = processes_for(teacher, len(pending)) * teacher.engine.n_devices
            with leased(needed) as lease:
                engine = resolve_dtype_in(folder, teacher.engine, settings, lease)
                spec = {"folder": str(responses), "prompts": str(prompts_path), "model": str(weights.folder or ""),
                        "engine": engine.model_dump(mode="json"), "settings": settings,
                        "counts_decide": counts_decide(teacher),
                        "logprobs": {"labels": LABELS in sidecars, "top_k": teacher.logprobs.top_k}}
                mend_journals(responses, prompts_path, pending, settings)
                answer(job, spec, budget, pending)
            remove_leftovers(responses, set())  # of processes that died meanwhile
        row_counts, details = totals(stage, responses, plan.rows)
        for sidecar in sidecars:
            details |= sidecar.totals(responses)
        if too_many(details["unusable"], plan.rows, teacher.max_unusable):
            raise unusable_error(stage, details["unusable"], plan.rows, teacher.max_unusable, (), run)
        return row_counts, {**details, "kept_shards": _n_kept(responses, plan.shards, settings),
                         "computed": computed_in(folder, settings)}

    inputs = {"prompts": plan.digest, **settings}
    with made_by_one(folder, essence(inputs)):
        take_over(folder, inputs)  # before it is looked at for what it lacks
        reopen_if_damaged(folder, plan.shards, settings, sidecars)
        if retry_failed:
            budget.refuse_overspent()  # before what is finished is opened again
            claim_stage(folder)
            reopen_failed(folder, plan, settings)
        return run_stage(folder, inputs, work, on_change, resumable=True, mends=True)


def settings_of(stage: Stage, teacher: Teacher, identity: str, seed: int) -> dict[str, Any]:
    """Return everything but the prompts that determines a stage's responses and their shards, as JSON values."""
    sampling = teacher.sampling.model_dump(mode="json")
    return {
        "version": VERSION,
        "model": identity,
        "engine": semantic_fields(teacher.engine),  # its number format as asked for: see distill.generation.computed
        "tokenization": TOKENIZATION,
        "chat_template": {family: getattr(teacher.chat_template, family) for family in STAGES[stage]},
        "sampling": {family: sampling[family] for family in STAGES[stage]},
        "structured": teacher.structured,
        "seed": seed,
        "shard_size": teacher.shard_size,
    }


def _n_kept(responses: Path, shards: Sequence[Shard], settings: Mapping[str, Any]) -> int:
    """Return how many finished shards were made from other settings, and kept."""
    markers = read_markers(responses)
    return sum(markers[shard.name].fingerprint != fingerprint(shard_inputs(shard, dict(settings))) for shard in shards)


def totals(stage: str, responses: Path, n_prompts: int) -> tuple[list[RowCounts], dict[str, Any]]:
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
    account = RowCounts(stage, "prompts", n_in=total["n_in"], n_out=total["n_out"], dropped=total["failures"])
    return [account], {"responses": responses_digest(markers.values()), **{key: total[key] for key in (
        "shards", "unusable", "n_prompt_tokens", "n_cached_tokens", "n_output_tokens", "seconds", "tokens_per_second")}}
