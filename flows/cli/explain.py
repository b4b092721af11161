"""Why a run's finished work is not taken as it is: what differs between what made it and what would make it now."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.config.load import load_config
from distill.config.sections.base import semantic_fields
from distill.plugins import code_may_be_gone
from distill.run.markers import MARKER, read_done
from distill.run.stage import differences, kept_changes
from flows.plan import STAGES
from flows.run import CONFIG, Run, find_config, stored_config
from flows.steps import teacher_weights


def explain(folder: Path, config: str | None, overrides: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each difference: ``where`` it is, ``key``, ``then``, ``now``, ``what`` it is true of.

    Compared are a run's config with the one named (and overrides), every shard's marker with what this config would
    make, and what earlier runs were told to keep.

    Raises:
        InputError: the config or the teacher cannot be found.
    """
    from distill.generation.explain import explain as explain_shards
    from distill.generation.plan import plan_shards
    from distill.generation.run import settings_of

    stored = stored_config(folder)
    asked = load_config(find_config(config), overrides) if config else (
        load_config(folder / CONFIG, overrides, resolved=True) if overrides else stored)
    with code_may_be_gone():
        decides = {key for key, *_ in differences(semantic_fields(stored), semantic_fields(asked))}
    rows = [{"where": "config", "key": key, "then": then, "now": now,
             "what": "decides results" if key in decides else "decides nothing that is made"}
            for key, then, now in differences(stored.to_json(), asked.to_json())]
    run = Run(asked, folder)
    for stage in STAGES:
        prompts = folder / "prompts" / f"{stage}.parquet"
        if not prompts.exists() or not (folder / stage).exists():
            continue
        settings = settings_of(stage, run.teacher, teacher_weights(run).identity, asked.seed)
        n_shards, found = explain_shards(folder / stage, plan_shards(prompts, run.teacher.shard_size), settings)
        rows += [{"where": f"{stage}, shards", "key": item.key, "then": item.then, "now": item.now,
                  "what": f"{item.shards:,} of {n_shards:,} shards"} for item in found]
    for marker in sorted(folder.rglob(MARKER)):
        rows += [{"where": str(marker.parent.relative_to(folder)), "key": line.split(":")[0], "then": "", "now": "",
                  "what": f"kept though {line}"} for line in kept_changes(read_done(marker.parent))]
    return rows
