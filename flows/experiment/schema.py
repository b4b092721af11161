"""What the YAML file of an experiment holds. Closed, as a run's config is."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from distill.config.load import Change, parse_override, read_yaml, validate
from distill.config.sections.base import LocalPath, Section, Seed
from distill.errors import InputError
from flows.run import find_config
from sentibench.paper import tables
from sentibench.registry import ORDER
from sentibench.summary import GROUPS

SHIPPED = "configs/experiments"
BASE = "base"
"""The student before training, as what variants are compared with."""
NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
Name = Annotated[str, Field(pattern=NAME, max_length=60)]


def _pair(value: Any) -> Any:
    """Read a reference alone as one that all variants are compared with."""
    return [None, value] if isinstance(value, str) else value


Comparison = Annotated[tuple[str | None, str], BeforeValidator(_pair)]
Overrides = dict[str, Any] | list[str] | None


class Experiment(Section):
    """Variants of a config, compared. ``docs/experiments.md`` has an example of each key."""

    name: Name = Field(description="its name, and its folder's below runs_dir")
    about: str = Field("", description="a sentence for the head of the page")
    base: str = Field(description="the config that variants change: the name of one that ships, or a file's path")
    settings: Overrides = Field(None, description="settings that replace the config's, for all variants")
    variants: dict[Name, Overrides] = Field(
        min_length=1, description="name: settings that replace the config's; a mapping, or a list of KEY=VALUE")
    train_seeds: list[Seed] = Field([42], min_length=1, description="each variant is trained once with each")
    evaluation: dict[str, Any] = Field({}, description="settings of the part evaluate, as seeds and limit, for all")
    compare: list[Comparison] | None = Field(
        None, min_length=1, description="what variants are compared with, base or another variant; or pairs [variant, "
                                        "other]; default: base and the first variant")
    columns: list[str] | None = Field(
        None, min_length=1, description="of the first table: tasks and means; default: the six means, which are BSA, "
                                        "MSA, FSA, seen, unseen, all")
    paper: int | None = Field(None, description="number of the paper's table that is shown below")
    runs_dir: LocalPath = Field("runs", description="from here where left out, else from the file's folder")

    @model_validator(mode="after")
    def _names_and_seeds(self) -> Self:
        if self.train_seeds and (doubled := _doubled(self.train_seeds)):
            raise ValueError(f"train_seeds holds {doubled[0]} twice; give each seed once")
        if taken := [name for name in self.variants if name in (BASE, "teacher")]:
            raise ValueError(f"a variant is called '{taken[0]}', which stands for the {_MEANT[taken[0]]}; rename it")
        for left, right in self.compare or ():
            for name in (left, right):
                if name is not None and name not in self.variants and (name != BASE or name == left):
                    raise ValueError(f"compare names '{name}', which is no variant; the variants are "
                                     f"{', '.join(self.variants)}" + ("" if name == left else f", and {BASE}"))
            if left == right:
                raise ValueError(f"compare names '{left}' on both sides; a difference is of two")
        if self.paper is not None and self.paper not in tables():
            raise ValueError(f"paper is {self.paper}, but of the paper's tables there are "
                             f"{', '.join(map(str, tables()))}")
        known = (*ORDER, *GROUPS)
        if unknown := [name for name in self.columns or () if name not in known]:
            raise ValueError(f"columns names '{unknown[0]}', which is no task of the benchmark and no mean; there are "
                             f"{', '.join(known)}")
        return self

    @property
    def comparisons(self) -> list[tuple[str, str]]:
        """Which variant is compared with what, in order, each pair once."""
        asked = self.compare or [(None, BASE), (None, next(iter(self.variants)))]
        pairs = [(name, other) for left, other in asked for name in ([left] if left else self.variants)]
        return list(dict.fromkeys(pair for pair in pairs if pair[0] != pair[1]))


_MEANT = {BASE: "student before training", "teacher": "teacher"}


def _doubled(values: list[Any]) -> list[Any]:
    return [value for place, value in enumerate(values) if value in values[:place]]


def load_experiment(file: str, overrides: list[str] | None = None) -> tuple[Experiment, Path, list[Change]]:
    """Return an experiment, its file, and what of ``overrides`` (KEY=VALUE) is meant for the config of all variants.

    An override whose first part is a key of experiments changes the experiment.

    Raises:
        InputError: there is no such file, a key is unknown (names the nearest), or a value is wrong.
    """
    path = find_config(file, "experiment", SHIPPED)
    values, rest = read_yaml(path), []
    for override in overrides or ():
        change = parse_override(override, path)
        first, *parts = change.key.split(".")
        if first not in Experiment.model_fields:
            rest.append(change)
        elif first == "evaluation" and parts:
            rest.append(Change(".".join(["evaluate", *parts]), change.value, change.folder))
        elif parts:
            raise InputError(f"{change.key} cannot be set from the command line. Set '{first}' as a whole, or change "
                             f"{path}.")
        else:
            values[first] = change.value
    given = values.get("runs_dir")
    if isinstance(given, str) and not any((one or "").startswith("runs_dir=") for one in overrides or ()):
        values["runs_dir"] = str(path.resolve().parent / given)
    found = validate(values, str(path), Experiment)
    return found, path, rest
