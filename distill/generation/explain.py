"""What differs between what made a stage's shards and what would make them now."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.generation.journal import journal_inputs
from distill.generation.manifests import is_intact, marker_path, read_markers
from distill.generation.plan import Plan, shard_inputs
from distill.generation.status import RESPONSES
from distill.run.stage import differences


@dataclass(frozen=True)
class Difference:
    """One setting (its parts joined by dots) that was ``then`` and is ``now``, and how many shards it is true of."""

    key: str
    then: Any
    now: Any
    shards: int


def explain(folder: Path, plan: Plan, settings: Mapping[str, Any]) -> tuple[int, list[Difference]]:
    """Return how many shards of a stage are finished, and what about them is not as it would be made now.

    A shard without a place among today's prompts, or whose file is not the one its marker was written for, is a
    difference, too.
    """
    responses = folder / RESPONSES
    markers, shards = read_markers(responses), {shard.name: shard for shard in plan.shards}
    found: Counter[tuple[str, str]] = Counter()
    values: dict[tuple[str, str], tuple[Any, Any]] = {}

    def count(key: str, then: Any, now: Any) -> None:
        where = (key, repr((then, now)))
        values[where] = (then, now)
        found[where] += 1

    for name in shards:
        if name not in markers and marker_path(responses, name).exists():
            count("marker", "whole", "damaged: the shard is made again")
        inputs = journal_inputs(responses, name) if name not in markers else None
        if inputs is not None:
            for key, before, after in differences(inputs, shard_inputs(shards[name], dict(settings))):
                count(f"{key} (unfinished)", before, after)
    for name, marker in markers.items():
        if name not in shards:
            count("prompts", "other prompts", "no such shard")
        else:
            now = shard_inputs(shards[name], dict(settings))
            if marker.inputs.get("prompts") != now["prompts"]:
                count("prompts", "other prompts", "today's")
            for key, before, after in differences(
                    {key: value for key, value in marker.inputs.items() if key != "prompts"},
                    {key: value for key, value in now.items() if key != "prompts"}):
                count(key, before, after)
        if not is_intact(responses, name, marker):
            count("file", marker.sha256[:12], "another, or none")
    return len(markers), [Difference(key, *values[key, shown], found[key, shown]) for key, shown in found]
