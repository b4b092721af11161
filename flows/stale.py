"""Is all that stands in a run of one making? A finished stage says what it was made of: that must be what is there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.run.markers import MARKER, is_finished, read_done
from distill.run.storage import read_object
from distill.training.stages import MODELS
from flows.plan import command_for, gated_stages, planned, trained_stages
from flows.run import Run

_MADE_OF = {"dataset": ("parents", "responses"), "validation": ("models",), "sentibench": ("models",)}
"""Keys of stages' inputs under which several of what they were made of stand by name."""


def refuse_stale(run: Run, base: Path) -> None:
    """Refuse a run of which a stage was made of another version of a stage before it than is there now.

    ``base`` is the student before training.

    Raises:
        InputError: one was; the message names both, and the command that makes it anew. Or the files of the trained
            model are not those that were recorded.
    """
    from distill.models import model_fingerprint
    from distill.training.lineage import checked_ancestors

    for stage in trained_stages(run):
        checked_ancestors(run.folder / MODELS[stage])
    for stage, of, same in _links(run, model_fingerprint(base)):
        if not same:
            raise InputError(f"The stage '{stage}' in {run.folder} was made of another '{of}' than is there now, so "
                             f"its results are not shown as this one's. Run '{command_for(stage)}' with the same "
                             "config and --discard to make it anew.")


def read_stage(run: Path, stage: str) -> dict[str, Any]:
    """Return what the marker of a finished stage says (:func:`distill.run.markers.read_done`), also of other stages.

    Raises:
        InputError: as that; or what the stage was made of is named in another way than ours.
    """
    done = read_done(run / stage)
    for inputs in (done["inputs"], done.get("kept", done)["inputs"]):
        if wrong := [key for key in _MADE_OF.get(stage, ()) if not isinstance(inputs.get(key, {}), dict)]:
            raise InputError(f"The marker {run / stage / MARKER} cannot be used: '{wrong[0]}' in its inputs is no "
                             "mapping. Something else than sentidistill has changed it. Put it back from a copy, or "
                             f"delete this file alone and run '{command_for(stage)}' again.")
    return done


def stale_stages(run: Run) -> dict[str, str]:
    """Return the finished stages that were made of another version of a stage than is there, and of which."""
    return {stage: of for stage, of, same in _links(run) if not same}


def began_from(run: Run) -> str | None:
    """Return the fingerprint of the model that a finished run's student was made from; None where it is not known."""
    from distill.models import model_fingerprint
    from distill.training.student import PRUNED_FROM

    done = read_stage(run.folder, MODELS[trained_stages(run)[0]])
    start: str | None = done.get("kept", done)["inputs"].get("start_model")
    if run.config.student.kind == "pretrained":
        return start
    pruned = run.folder / "models" / "base"
    if not (pruned / PRUNED_FROM).is_file() or model_fingerprint(pruned) != start:
        return None
    return str(read_object(pruned / PRUNED_FROM, base=str)["base"])


def _links(run: Run, base: str = "") -> Iterator[tuple[str, str, bool]]:
    """Yield a finished stage, one that it was made of, and whether it was made of what that is now."""
    from distill.dataset.build import responses_of

    done = {stage: read_stage(run.folder, stage) for stage in planned(run) if is_finished(run.folder / stage)}
    made = {stage: marker.get("kept", marker)["inputs"] for stage, marker in done.items()}
    trained = trained_stages(run)
    models = {MODELS[stage]: done[MODELS[stage]]["details"].get("fingerprint") for stage in trained
              if MODELS[stage] in done}
    final = MODELS[trained[-1]]

    def link(stage: str, of: str, recorded: Any) -> Iterator[tuple[str, str, bool]]:
        """Compare what a stage recorded of another with the fingerprint of that now; of neither unknown."""
        now = models[of] if of in models else done[of]["fingerprint"] if of in done else None
        if recorded is not None and now is not None:
            yield stage, of, recorded == now

    if "prompts" in made:
        yield from link("prompts", "corpus", made["prompts"].get("corpus"))
    for of, recorded in made.get("dataset", {}).get("parents", {}).items():
        yield from link("dataset", of, recorded)
    for of, recorded in made.get("dataset", {}).get("responses", {}).items():
        if of in done:  # failed prompts may have been asked again since, under the same settings
            yield "dataset", of, recorded == responses_of(run.folder, of)
    for model in models:
        yield from link(model, "dataset", made[model].get("parents") or None)
    if "icldist" in trained and MODELS["knowdist"] in models and final in models:
        yield from link(final, MODELS["knowdist"], made[final].get("start_model"))
    for stage in gated_stages(run):
        if f"gate/{stage}" in made:
            yield from link(f"gate/{stage}", MODELS[stage], made[f"gate/{stage}"].get("model"))
    yield from link("calibration", final, made.get("calibration", {}).get("model"))
    for stage in ("validation", "sentibench"):
        measured = done[stage]["inputs"].get("models", {}) if stage in done else {}
        yield from link(stage, final, measured.get("distilled"))
        yield from link(stage, MODELS["knowdist"], measured.get("stage1"))
        if base and "base" in measured:
            yield stage, "base student", measured["base"] == base
