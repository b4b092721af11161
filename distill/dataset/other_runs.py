"""Answers of other finished runs, which become rows beside a run's own: another teacher's, or those of other texts.

Their prompts and answers are read as they are, with the distributions beside them, and go through this run's filters.
Nothing is written to the other run. The prompts that became rows are kept in ``dataset/other_prompts.parquet``, so that
evaluation and report do not need it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from distill.config.load import read_yaml
from distill.config.schema import Train
from distill.config.sections.training import LogitsObjective
from distill.corpus.decontamination.contamination import contaminated
from distill.corpus.decontamination.decontaminate import BenchmarkIndex
from distill.dataset.account import Account
from distill.dataset.answers import AnswerSorter, Asked
from distill.dataset.targets import Targets, refuse_without_top_logprobs, target_inputs, targets_of
from distill.dataset.tokens import RowEncoder
from distill.errors import InputError
from distill.generation.manifests import read_markers, responses_digest
from distill.generation.status import RESPONSES
from distill.prompting.decontaminate import Benchmark
from distill.prompting.kept import FILE
from distill.resources import locate
from distill.run.folder import check_mark
from distill.run.hashing import file_digest
from distill.run.markers import is_finished, require_whole
from distill.run.records import OtherPrompt, Prompt, RecordWriter, read_columns

VERSION = 1
"""Raised when such rows are made in another way."""
PROMPTS = "other_prompts.parquet"
ASKED_TWICE = "asked_twice"


@dataclass(frozen=True)
class OtherRun:
    """A finished run: its folder and that folder's name, its teacher's, and those of its stages that have prompts."""

    folder: Path
    name: str
    teacher: str
    stages: tuple[str, ...]

    def inputs(self) -> dict[str, Any]:
        """Return what decides the rows, wherever the folder is, for the fingerprint of a stage."""
        kept = self.folder / "prompts" / FILE  # what answers are read by
        return {stage: [file_digest(self.folder / "prompts" / f"{stage}.parquet"),
                        file_digest(kept) if kept.is_file() else "",
                        responses_digest(read_markers(self.folder / stage / RESPONSES).values())]
                for stage in self.stages}


def open_other_runs(paths: Sequence[str], objectives: Mapping[str, Any], own: Path) -> list[OtherRun]:
    """Return the runs that ``dataset.other_runs`` of the run ``own`` names; ``objectives``: of each stage's rows.

    Raises:
        InputError: one is no run, is ``own``, is named twice, has unfinished or damaged answers, or none at all; or
            answers lack what the objective of their stage learns.
    """
    found: list[OtherRun] = []
    for path in paths:
        folder = locate(path)
        try:
            other = _opened(folder, list(objectives))
        except InputError as error:
            raise InputError(f"dataset.other_runs: {error}") from error
        if own.exists() and folder.samefile(own):
            raise InputError(f"dataset.other_runs names the run {folder} itself, whose answers are rows already. Take "
                             "it out.")
        if any(folder.samefile(one.folder) for one in found):
            raise InputError(f"dataset.other_runs names the run {folder} twice. Take one out.")
        for stage in other.stages:
            if isinstance(objectives[stage], LogitsObjective):
                refuse_without_top_logprobs(folder, stage)
        found.append(other)
    return found


def refuse_other_vocabularies(runs: Sequence[OtherRun], objectives: Mapping[str, Any], student: Path) -> None:
    """Raise where the likeliest tokens beside other runs' answers are not of the student's vocabulary.

    Raises:
        InputError: some are not, and the objective is not across vocabularies.
    """
    for other in runs:
        for stage in other.stages:
            if isinstance(objectives[stage], LogitsObjective):
                targets_of(other.folder, {stage: objectives[stage]}, student, RowEncoder(student, Train(), 0))


def asked_by(paths: Sequence[str], stages: Sequence[str]) -> set[str]:
    """Return the stages of which one of the runs has prompts; of a run that is not there any more, none."""
    return {stage for path in paths for stage in _asked(locate(path), stages)}


def _asked(folder: Path, stages: Sequence[str]) -> tuple[str, ...]:
    prompts = {stage: folder / "prompts" / f"{stage}.parquet" for stage in stages}
    return tuple(stage for stage, path in prompts.items() if path.is_file() and read_columns(path, ["id"]).num_rows)


def _opened(folder: Path, stages: Sequence[str]) -> OtherRun:
    if folder.is_file():
        raise InputError(f"{folder} is a file. Name the folder of a run, such as runs/demo.")
    check_mark(folder)
    require_whole(folder / "prompts", "distill prompts")
    asked = _asked(folder, stages)
    if not asked:
        raise InputError(f"The run {folder} has asked its teacher nothing. Name one whose teacher has answered.")
    for stage in asked:
        if not is_finished(folder / stage):
            raise InputError(f"The teacher of the run {folder} has not answered all prompts of stage {stage} yet. "
                             "Finish it with 'distill generate', or leave it out.")
        require_whole(folder / stage, "distill generate")
    teacher: Any = read_yaml(folder / "config.yaml")
    for key in ("teacher", "model", "name"):
        teacher = teacher.get(key) if isinstance(teacher, dict) else None
    if not isinstance(teacher, str):
        raise InputError(f"{folder / 'config.yaml'} does not name the run's teacher (teacher.model.name). Something "
                         "else than sentidistill has changed it.")
    return OtherRun(folder, folder.resolve().name, teacher, asked)


def other_inputs(runs: Sequence[OtherRun], objectives: Mapping[str, Any], benchmark: Benchmark | None
                 ) -> dict[str, Any]:
    """Return what decides the rows of other runs, for the fingerprint of a stage."""
    return {"version": VERSION, "benchmark": [benchmark.id, benchmark.max_distance] if benchmark else None,
            "runs": [one.inputs() | target_inputs(one.folder, {stage: objectives[stage] for stage in one.stages})
                     for one in runs]}


@dataclass
class OtherAnswers:
    """Makes rows of the answers of other runs; ``accounts`` and ``details`` say what became of them.

    Accounts have the stage and the place of the run in the config in their names. ``targets``, by account, have the
    distributions that the rows learn.
    """

    runs: Sequence[OtherRun]
    objectives: Mapping[str, Any]
    student: Path
    encoder: RowEncoder
    benchmark: Benchmark | None
    accounts: dict[str, Account] = field(default_factory=dict)
    details: list[dict[str, Any]] = field(default_factory=list)
    targets: dict[str, Targets] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read the benchmark once."""
        self._index = (BenchmarkIndex(self.benchmark.texts(), self.benchmark.max_distance)
                       if self.benchmark and self.runs else None)

    def sort(self, stage: str, sorter: AnswerSorter, prompts: RecordWriter[OtherPrompt]) -> None:
        """Sort the answers of a stage of each run.

        Of a prompt that has a row no other is made. Rows whose prompt or answer holds a text of the benchmark are left
        out: what the other run was kept free of may have been another.
        """
        for number, other in enumerate(self.runs):
            if stage in other.stages:
                self._sort(other, number, stage, sorter, prompts)

    def _sort(self, other: OtherRun, number: int, stage: str, sorter: AnswerSorter,
              prompts: RecordWriter[OtherPrompt]) -> None:
        there = frozenset(sorter.made)

        def refused(some: Sequence[Asked]) -> dict[str, tuple[str, str]]:
            leaks = contaminated([(prompt.prompt, response.output) for prompt, response in some], self._index)
            found = {prompt.id: leak for (prompt, _), leak in zip(some, leaks, strict=True) if leak}
            return found | {prompt.id: (ASKED_TWICE, "this run, or one named before, has a row of the same prompt")
                            for prompt, _ in some if prompt.id in there}

        def used(prompt: Prompt) -> None:
            prompts.write(OtherPrompt(**{one.name: getattr(prompt, one.name) for one in fields(Prompt)},
                                      run=other.name))

        name = f"other_runs/{stage}/{number}"
        if (found := targets_of(other.folder, {stage: self.objectives[stage]}, self.student, self.encoder)):
            self.targets[name] = found[stage]
        account = sorter.sort(other.folder, stage, f"dataset/{name}", self.targets.get(name), refused=refused,
                              used=used)
        self.accounts[name] = account
        self.details.append({"run": other.name, "number": number, "teacher": other.teacher, "stage": stage,
                             "prompts": account.kept.total() + account.dropped.total(), "rows": account.kept.total()})
