"""From an experiment to its runs: one for each variant and training seed, with its whole config."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill.config.load import Change, load_changed, parse_override
from distill.config.schema import Config
from distill.config.sections.base import semantic_fields
from distill.errors import InputError
from distill.run.folder import folder_named
from distill.run.hashing import fingerprint
from distill.training.stages import MODELS
from flows.experiment.schema import Experiment, Overrides
from flows.plan import trained_stages
from flows.run import Run, find_config

_FROM = "variant:"
_STUDENT = "student.model.name"


@dataclass(frozen=True)
class PlannedRun:
    """A variant with a training seed: its config, and where it is kept. ``needs`` names the run that it begins from."""

    variant: str
    seed: int
    config: Config
    folder: Path
    needs: str | None = None

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name


def folder_of(experiment: Experiment) -> Path:
    """Return where an experiment is kept."""
    return folder_named(None, experiment.name, experiment.runs_dir).absolute()


def plan(experiment: Experiment, file: Path, changes: Sequence[Change] = ()) -> list[PlannedRun]:
    """Return the runs of an experiment, those first that others begin from.

    ``changes`` are made to the config of all variants, before their own.

    Raises:
        InputError: the config of a variant cannot be used, changes nothing, or is that of another variant.
    """
    folder = file.resolve().parent
    shared = [*_changes(experiment.settings, file, "'settings'"),
              *([Change("evaluate", experiment.evaluation, folder, merged=True)] if experiment.evaluation else []),
              *changes]
    place, known = folder_of(experiment), dict[str, str]()
    runs: list[PlannedRun] = []
    for variant in experiment.variants:
        own, base, begins = _own(experiment, variant, file)
        origin = f"of variant '{variant}' in {file}"
        plain = load_changed(base, shared, f"{base}, as the experiment {file} changes it,") if own else None
        for seed in experiment.train_seeds:
            name = run_name(variant, seed)
            settings = [*shared, *own, Change("name", name, file.parent), Change("train.seed", seed, file.parent)]
            if begins:
                start = _start(experiment, begins, runs, seed, variant)
                settings.append(Change(_STUDENT, str(start), file.parent))
            config = load_changed(base, settings, origin)
            config.prompts.read_files()
            if seed == experiment.train_seeds[0]:
                _refuse_same(variant, config, plain if not begins else None, known, file)
            runs.append(PlannedRun(variant, seed, config, place / name, run_name(begins, seed) if begins else None))
    return runs


def run_name(variant: str, seed: int) -> str:
    """Return the name of the run of a variant with a training seed."""
    return f"{variant}-seed{seed}"


def _own(experiment: Experiment, variant: str, file: Path) -> tuple[list[Change], Path, str]:
    """Return a variant's own changes, the config that they change, and the variant whose model it begins from."""
    folder, base, begins, changes = file.resolve().parent, experiment.base, "", []
    for change in _changes(experiment.variants[variant], file, f"Variant '{variant}'"):
        if change.key in ("name", "train.seed", "runs_dir"):
            raise InputError(f"Variant '{variant}' in {file} sets {change.key}, which the experiment decides: its "
                             "variants' names, train_seeds and runs_dir. Take it out.")
        if change.key == "base":
            base = str(change.value)
        elif change.key == _STUDENT and str(change.value).startswith(_FROM):
            begins = str(change.value).removeprefix(_FROM)
        else:
            changes.append(change)
    near = folder / base
    return changes, near if near.is_file() else find_config(base), begins


def _changes(given: Overrides, file: Path, whose: str) -> list[Change]:
    """Return what a mapping, or a list of KEY=VALUE, changes; its paths are meant from the file's folder."""
    folder = file.resolve().parent
    if not isinstance(given, list):
        return [Change(str(key), value, folder, merged=True) for key, value in (given or {}).items()]
    try:
        return [replace(parse_override(one, file), folder=folder) for one in given]
    except InputError as error:
        raise InputError(f"{whose} in {file}: {str(error).replace('--set takes', 'a list holds')}") from error


def _start(experiment: Experiment, begins: str, runs: Sequence[PlannedRun], seed: int, variant: str) -> Path:
    """Return where the final model will be that a variant begins from."""
    found = next((run for run in runs if (run.variant, run.seed) == (begins, seed)), None)
    if found is None:
        there = "comes after it; put it before" if begins in experiment.variants and begins != variant else (
            "is no other variant")
        raise InputError(f"Variant '{variant}' begins from the model of '{begins}', which {there}.")
    return found.folder / MODELS[trained_stages(Run(found.config, found.folder))[-1]]


def _refuse_same(variant: str, config: Config, plain: Config | None, known: dict[str, str], file: Path) -> None:
    if plain is not None and _decides(plain) == _decides(config):
        raise InputError(f"Variant '{variant}' in {file} sets what the config says already, so it changes nothing. "
                         f"Give it other settings, or none ('{variant}: {{}}') if it is to be the config as it is.")
    if (other := known.setdefault(_decides(config), variant)) != variant:
        raise InputError(f"The variants '{other}' and '{variant}' in {file} have the same settings, so they would be "
                         "one run twice. Change one, or take it out.")


def _decides(config: Config) -> str:
    """Return the fingerprint of what tells variants apart: all that decides results, but for name and training seed."""
    fields: dict[str, Any] = semantic_fields(config)
    train = {key: value for key, value in fields["train"].items() if key != "seed"}
    return fingerprint({**fields, "name": "", "train": train})
