"""Finished shards that hold failures are opened again, so that just the failed prompts are asked anew."""

import logging
from pathlib import Path
from typing import Any

from distill.generation.journal import JOURNAL, Journal
from distill.generation.markers import is_intact, marker_path, parquet_path, read_markers
from distill.generation.shards import Plan, shard_inputs
from distill.generation.status import RESPONSES
from distill.run.hashing import fingerprint
from distill.run.markers import MARKER
from distill.run.records import Response, read_records

HOPELESS = frozenset({"empty_prompt", "not_encodable"})
"""Failures that the prompt itself is the reason of: asked again, it would fail again. What is too long for an engine
may fit where that has more memory."""

log = logging.getLogger("sentidistill.generation")


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
        journal.add(kept, marker.seconds, marker.n_cached_tokens)
        journal.sync()
        journal.close()
        (folder / MARKER).unlink(missing_ok=True)
        marker_path(responses, shard.name).unlink()
        n_again += marker.n_in - len(kept)
    log.info("%s failed prompts are asked again", f"{n_again:,}")
    return n_again
