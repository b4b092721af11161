"""What of a stage is still to be answered: after a crash, with other settings, with damaged or failed answers."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.generation.journal import JOURNAL, Journal, is_damaged, journal_inputs
from distill.generation.label_logprobs import LABELS
from distill.generation.manifests import is_intact, marker_path, parquet_path, read_marker, read_markers
from distill.generation.plan import Plan, PromptFile, Shard, shard_inputs
from distill.generation.sidecar import Sidecar, lacking_of
from distill.generation.status import RESPONSES
from distill.generation.top_logprobs import SIDECARS, TOP
from distill.run.folder import claim_stage, remove
from distill.run.hashing import fingerprint
from distill.run.markers import MARKER, is_finished, read_done
from distill.run.records import Response, read_records
from distill.run.stage import OnChange, changed_message

HOPELESS = frozenset({"empty_prompt", "not_encodable"})
"""Failures that the prompt itself is the reason of: asked again, it would fail again. What is too long for an engine
may fit where that has more memory."""

log = logging.getLogger("sentidistill.generation")


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
            _discard_other_journal(responses, shard, settings, on_change)
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


def _discard_other_journal(responses: Path, shard: Shard, settings: Mapping[str, Any], on_change: OnChange) -> None:
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


def mend_journals(responses: Path, prompts_path: Path, pending: Sequence[Shard], settings: dict[str, Any]) -> None:
    """Leave out of journals what is no answer to a prompt of its shard, before it is counted."""
    begun = [shard for shard in pending if (responses / f"{shard.name}{JOURNAL}").exists()]
    if not begun:
        return
    with contextlib.closing(PromptFile(prompts_path)) as prompts:
        for shard in begun:
            known = {prompt.id for prompt in prompts.load(shard.first, shard.count)}
            Journal(responses, shard.name, shard_inputs(shard, settings), known).close()


def remove_leftovers(responses: Path, pending: set[str]) -> None:
    """Delete what a killed process left: half-written files, and journals of shards that are finished."""
    half_written = [*responses.glob(".*.tmp"), *(
        path for sidecar in SIDECARS for path in sidecar.folder(responses).glob(".*.tmp"))]
    for path in [*half_written, *responses.glob(f"*{JOURNAL}")]:
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
        for folder in (sidecar.folder(responses) for sidecar in SIDECARS):
            marker_path(folder, name).unlink(missing_ok=True)
            parquet_path(folder, name).unlink(missing_ok=True)


def reopen_if_damaged(folder: Path, shards: Sequence[Shard], settings: Mapping[str, Any],
                      sidecars: Sequence[Sidecar[Any]]) -> None:
    """Take the stage's marker away where it or a shard's file is missing or damaged, so that the stage is resumed.

    ``sidecars`` are to be there as well.
    """
    if not is_finished(folder):
        return
    responses = folder / RESPONSES
    markers = read_markers(responses)
    try:
        n_shards = read_done(folder)["details"].get("shards")
    except InputError as error:
        log.warning("%s The shards' own markers say what is there.", error)
        n_shards = None
    whole = all(is_intact(responses, name, one) for name, one in markers.items())
    lacking = lacking_of(responses, shards, settings, sidecars)
    if len(markers) != n_shards or not whole or lacking:
        claim_stage(folder)
        remove(folder / MARKER)


def reopen_failed(folder: Path, plan: Plan, settings: dict[str, Any]) -> int:
    """Open the shards of a stage again that hold failures worth another try; return how many prompts these are.

    What a shard holds of answers goes into its journal before its marker is taken away: nothing is lost whenever this
    ends. Shards of other settings are left alone.
    """
    responses, n_again, markers = folder / RESPONSES, 0, read_markers(folder / RESPONSES)
    for shard in plan.shards:
        marker, mark = markers.get(shard.name), fingerprint(shard_inputs(shard, settings))
        if marker is None or marker.fingerprint != mark or not set(marker.failures) - HOPELESS:
            continue
        if not is_intact(responses, shard.name, marker):
            continue  # it is made anew as a whole
        kept = [item for item in read_records(parquet_path(responses, shard.name), Response)
                if not item.failure or item.failure in HOPELESS]
        (responses / f"{shard.name}{JOURNAL}").unlink(missing_ok=True)
        journal = Journal(responses, shard.name, shard_inputs(shard, settings))
        journal.add(kept, marker.seconds, marker.n_cached_tokens, LABELS.records_of(responses, shard.name, marker),
                    TOP.records_of(responses, shard.name, marker))
        journal.sync()
        journal.close()
        (folder / MARKER).unlink(missing_ok=True)
        marker_path(responses, shard.name).unlink()
        n_again += marker.n_in - len(kept)
    log.info("%s failed prompts are asked again", f"{n_again:,}")
    return n_again
