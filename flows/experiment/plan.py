"""From an experiment to its runs: one for each variant and training seed, with its whole config."""

from collections.abc import Iterator, Sequence
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
_DECIDED = ("name", "train.seed", "runs_dir")


@dataclass(frozen=True)
class PlannedRun:
    """A variant with a training seed: its config, and where it is kept. ``begins``: the variant that it begins from."""

    variant: str
    seed: int
    config: Config
    folder: Path
    begins: str | None = None

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def needs(self) -> str | None:
        """The name of the run that it begins from."""
        return run_name(self.begins, self.seed) if self.begins else None


def folder_of(experiment: Experiment) -> Path:
    """Return where an experiment is kept."""
    return folder_named(None, experiment.name, experiment.runs_dir).absolute()


def plan(experiment: Experiment, file: Path, changes: Sequence[Change] = ()) -> list[PlannedRun]:
    """Return the runs of an experiment, those first that others begin from.

    ``changes`` are made to the config of all variants, before their own.

    Raises:
        InputError: the config of a variant cannot be used, changes nothing, or is that of another variant.
    """
    shared = _shared(experiment, file, changes)
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
            runs.append(PlannedRun(variant, seed, config, place / name, begins or None))
    return runs


def run_name(variant: str, seed: int) -> str:
    """Return the name of the run of a variant with a training seed."""
    return f"{variant}-seed{seed}"


def _shared(experiment: Experiment, file: Path, changes: Sequence[Change]) -> list[Change]:
    """Return what is changed for all variants: by the file, then by the command line."""
    settings = _changes(experiment.settings, file, "'settings'")
    for whose, some in ((f"'settings' in {file}", settings), ("--set", changes)):
        _refuse_decided(some, whose)
        if any(key == _STUDENT and str(value).startswith(_FROM) for key, value in _leaves(some)):
            raise InputError(f"{whose} has all variants begin from the model of one of them. Only variants that come "
                             "after it can: set it in theirs.")
    evaluation = Change("evaluate", experiment.evaluation, file.resolve().parent, merged=True)
    return [*settings, *([evaluation] if experiment.evaluation else []), *changes]


def _own(experiment: Experiment, variant: str, file: Path) -> tuple[list[Change], Path, str]:
    """Return a variant's own changes, the config that they change, and the variant whose model it begins from."""
    folder, base, begins, changes = file.resolve().parent, experiment.base, "", []
    given = _changes(experiment.variants[variant], file, f"Variant '{variant}'")
    _refuse_decided(given, f"Variant '{variant}' in {file}")
    for key, value in _leaves(given):
        if key == _STUDENT:  # where the model will be is put in its place later
            begins = str(value).removeprefix(_FROM) if str(value).startswith(_FROM) else ""
    for change in given:
        if change.key == "base":
            base = str(change.value)
        else:
            changes.append(change)
    near = folder / base
    return changes, near if near.is_file() else find_config(base), begins


def _leaves(changes: Sequence[Change]) -> Iterator[tuple[str, Any]]:
    """Yield each value that changes set, under its key with dots, however deep it stands in a mapping."""
    for change in changes:
        if isinstance(change.value, dict):
            yield from _leaves([replace(change, key=f"{change.key}.{key}", value=value)
                                for key, value in change.value.items()])
        else:
            yield change.key, change.value


def _refuse_decided(changes: Sequence[Change], whose: str) -> None:
    if found := [key for key, _ in _leaves(changes) if key in _DECIDED]:
        raise InputError(f"{whose} sets {found[0]}, which the experiment decides: its variants' names, train_seeds and "
                         "runs_dir. Take it out.")


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
