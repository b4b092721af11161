"""The stages ``knowdist`` and ``icldist``: ask the teacher every prompt, once, whatever happens meanwhile."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from distill.config.schema import Teacher
from distill.errors import InputError, RunError
from distill.generation.journal import JOURNAL, journalled
from distill.generation.markers import Marker, is_intact, marker_path, read_marker, read_markers
from distill.generation.shards import PromptSet, Shard
from distill.generation.worker import SLICE, shard_inputs
from distill.hashing import fingerprint
from distill.ledger import Ledger
from distill.models import model_fingerprint
from distill.process import call_in_process
from distill.stage import MARKER, OnChange, Outcome, changed_message, run_stage
from distill.storage import read_json

Stage = Literal["knowdist", "icldist"]
STAGES: dict[str, tuple[str, ...]] = {"knowdist": ("knowdist",), "icldist": ("icldist", "general")}
RESPONSES = "responses"

log = logging.getLogger("sentidistill.generation")


def generate(
    stage: Stage,
    prompts_path: Path,
    teacher: Teacher,
    model: Path,
    run: Path,
    seed: int,
    on_change: OnChange = "stop",
    slice_size: int = SLICE,
) -> Outcome:
    """Have the teacher in the folder ``model`` answer the prompts of a stage into ``run/<stage>/responses``.

    Finished shards are never touched again; the engine is started only where a shard is pending, in a process
    of its own. A shard whose file was damaged is made anew, and a warning says so. ``slice_size`` is the
    number of requests the engine gets at once, which is the most that a crash can lose.

    The outcome's account counts prompts: in, answered, failed by reason; its totals are those of the markers.

    Raises:
        InputError: shards were made from other settings and ``on_change`` is ``stop``; the engine refuses
            its settings; or ``on_change`` is ``keep`` but the prompts themselves have changed.
        RunError: the engine died; the same command again goes on from there.
    """
    folder = run / stage
    prompts = PromptSet(prompts_path, teacher.shard_size)
    settings = settings_of(stage, teacher, model_fingerprint(model), seed)

    def work(_: Path) -> tuple[list[Ledger], dict[str, Any]]:
        responses = folder / RESPONSES
        responses.mkdir(exist_ok=True)
        pending = pending_shards(responses, prompts.shards, settings, on_change)
        _remove_leftovers(responses, {shard.name for shard in pending})
        if pending:
            call_in_process("distill.generation.worker:run_shards", {
                "folder": str(responses), "prompts": str(prompts_path), "model": str(model),
                "engine": teacher.engine.model_dump(mode="json"), "settings": settings,
                "shards": [shard.name for shard in pending], "slice_size": slice_size,
            }, log=run / "logs" / f"{stage}.log")
        ledgers, details = totals(stage, responses, len(prompts))
        return ledgers, {**details, "kept_shards": _n_kept(responses, prompts.shards, settings)}

    _reopen_if_damaged(folder)
    return run_stage(folder, {"prompts": prompts.digest, **settings}, work, on_change, resumable=True)


def settings_of(stage: Stage, teacher: Teacher, model: str, seed: int) -> dict[str, Any]:
    """Return everything but the prompts that determines a stage's responses and their shards, as JSON values."""
    sampling = teacher.sampling.model_dump(mode="json")
    return {
        "model": model,
        "engine": teacher.engine.model_dump(mode="json"),
        "chat_template": {family: getattr(teacher.chat_template, family) for family in STAGES[stage]},
        "sampling": {family: sampling[family] for family in STAGES[stage]},
        "seed": seed,
        "shard_size": teacher.shard_size,
    }


def pending_shards(responses: Path, shards: list[Shard], settings: Mapping[str, Any],
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


def _n_kept(responses: Path, shards: list[Shard], settings: Mapping[str, Any]) -> int:
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
    """Take the stage's marker away where a shard's file is missing or damaged, so that the stage is resumed."""
    if not (folder / MARKER).exists():
        return
    responses = folder / RESPONSES
    markers = read_markers(responses)
    whole = len(markers) == read_json(folder / MARKER)["details"].get("shards")
    if not whole or not all(is_intact(responses, name, marker) for name, marker in markers.items()):
        (folder / MARKER).unlink()


def totals(stage: str, responses: Path, n_prompts: int) -> tuple[list[Ledger], dict[str, Any]]:
    """Add up a stage's markers: its account in prompts, and its tokens, seconds and number of shards.

    Raises:
        RunError: the markers do not account for every prompt.
    """
    total = _sum(read_markers(responses).values())
    if total["n_in"] != n_prompts:
        raise RunError(f"The shards in {responses} account for {total['n_in']} of {n_prompts} prompts. Run the same "
                       "command again; if that does not help, delete the folder.")
    ledger = Ledger(stage, "prompts", n_in=total["n_in"], n_out=total["n_out"], dropped=total["failures"])
    return [ledger], {key: total[key] for key in
                      ("shards", "n_prompt_tokens", "n_output_tokens", "seconds", "tokens_per_second")}


def status(run: Path) -> dict[str, dict[str, Any]]:
    """Return how far the teacher is, by stage, from the files of a run (which may be under way).

    ``prompts`` is the number to ask (None before the prompts are made), ``done`` and ``failed`` those in
    finished shards, ``in_progress`` those answered in shards still running, ``left`` the rest;
    ``tokens_per_second`` counts the teacher's output tokens over the engine's time, 0 before the first shard.
    """
    found: dict[str, dict[str, Any]] = {}
    for stage in STAGES:
        responses = run / stage / RESPONSES
        total = _sum(read_markers(responses).values())
        n_prompts = _n_rows(run / "prompts" / f"{stage}.parquet")
        in_progress = journalled(responses)
        left = None if n_prompts is None else max(0, n_prompts - total["n_in"] - in_progress)
        found[stage] = {
            "prompts": n_prompts, "done": total["n_out"], "failed": total["n_failed"], "in_progress": in_progress,
            "left": left, "failures": dict(total["failures"]), "shards": total["shards"],
            "n_prompt_tokens": total["n_prompt_tokens"], "n_output_tokens": total["n_output_tokens"],
            "seconds": total["seconds"], "tokens_per_second": total["tokens_per_second"],
            "finished": (run / stage / MARKER).exists(),
        }
    return found


def _sum(markers: Any) -> dict[str, Any]:
    listed: list[Marker] = list(markers)
    failures: Counter[str] = Counter()
    for marker in listed:
        failures.update(marker.failures)
    numbers = ("n_in", "n_out", "n_failed", "n_prompt_tokens", "n_output_tokens")
    total: dict[str, Any] = {key: sum(getattr(marker, key) for marker in listed) for key in numbers}
    seconds = round(sum(marker.seconds for marker in listed), 3)
    speed = round(total["n_output_tokens"] / seconds, 1) if seconds else 0.0
    return total | {"shards": len(listed), "failures": failures, "seconds": seconds, "tokens_per_second": speed}


def _n_rows(path: Path) -> int | None:
    try:
        return pq.read_metadata(path).num_rows
    except (OSError, pa.ArrowException):
        return None
