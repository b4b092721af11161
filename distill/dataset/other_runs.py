"""Answers of other finished runs, which become rows beside a run's own: another teacher's, or those of other texts.

Their prompts and answers are read as they are, with the distributions beside them, and go through this run's filters.
Nothing is written to the other run, and it is not needed once the rows are made: the prompts that became rows are kept
in ``dataset/other_prompts.parquet``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from distill.config.load import read_yaml
from distill.config.sections.training import LogitsObjective
from distill.corpus.decontamination.contamination import contaminated
from distill.corpus.decontamination.decontaminate import BenchmarkIndex
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
from distill.run.row_counts import RowCounts

VERSION = 1
"""Raised when such rows are made in another way."""
PROMPTS = "other_prompts.parquet"
STEP = "dataset/other_runs"
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


def open_other_runs(paths: Sequence[str], stages: Sequence[str], own: Path) -> list[OtherRun]:
    """Return the runs that ``dataset.other_runs`` of the run ``own`` names.

    Raises:
        InputError: one is no run, is ``own``, is named twice, has unfinished or damaged answers, or none at all.
    """
    found: list[OtherRun] = []
    for path in paths:
        folder = locate(path)
        try:
            other = _opened(folder, stages)
        except InputError as error:
            raise InputError(f"dataset.other_runs: {error}") from error
        if own.exists() and folder.samefile(own):
            raise InputError(f"dataset.other_runs names the run {folder} itself, whose answers are rows already. Take "
                             "it out.")
        if any(folder.samefile(one.folder) for one in found):
            raise InputError(f"dataset.other_runs names the run {folder} twice. Take one out.")
        found.append(other)
    return found


def _opened(folder: Path, stages: Sequence[str]) -> OtherRun:
    if folder.is_file():
        raise InputError(f"{folder} is a file. Name the folder of a run, such as runs/demo.")
    check_mark(folder)
    require_whole(folder / "prompts", "distill prompts")
    asked = tuple(stage for stage in stages if (folder / "prompts" / f"{stage}.parquet").is_file()
                  and read_columns(folder / "prompts" / f"{stage}.parquet", ["id"]).num_rows)
    if not asked:
        raise InputError(f"The run {folder} has asked its teacher nothing. Name one whose teacher has answered.")
    for stage in asked:
        if not is_finished(folder / stage):
            raise InputError(f"The teacher of the run {folder} has not answered all prompts of stage {stage} yet. "
                             "Finish it with 'distill generate', or leave it out.")
        require_whole(folder / stage, "distill generate")
    config = read_yaml(folder / "config.yaml")
    teacher: Any = config
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

    ``targets``, by account, have the distributions that the rows learn.
    """

    runs: Sequence[OtherRun]
    objectives: Mapping[str, Any]
    student: Path
    encoder: RowEncoder
    benchmark: Benchmark | None
    accounts: list[RowCounts] = field(default_factory=list)
    details: list[dict[str, Any]] = field(default_factory=list)
    targets: dict[str, Targets] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read the benchmark once."""
        self._index = (BenchmarkIndex(self.benchmark.texts(), self.benchmark.max_distance)
                       if self.benchmark and self.runs else None)

    def sort(self, stage: str, own: Path, sorter: AnswerSorter, prompts: RecordWriter[OtherPrompt]) -> int:
        """Sort the answers of a stage of each run, and return how many became rows.

        Of prompts that the file ``own``, or a run before, has, too, none is taken. Rows whose prompt or answer holds a
        text of the benchmark are left out: what the other run was kept free of may have been another.
        """
        asked, n_rows = _ids(own), 0
        for other in self.runs:
            if stage in other.stages:
                account = self._sort(other, stage, sorter, prompts, frozenset(asked))
                n_rows += account.n_out
                asked |= _ids(other.folder / "prompts" / f"{stage}.parquet")
        return n_rows

    def _sort(self, other: OtherRun, stage: str, sorter: AnswerSorter, prompts: RecordWriter[OtherPrompt],
              asked: frozenset[str]) -> RowCounts:
        def refused(some: Sequence[Asked]) -> dict[str, tuple[str, str]]:
            leaks = contaminated([(prompt.prompt, response.output) for prompt, response in some], self._index)
            found = {prompt.id: leak for (prompt, _), leak in zip(some, leaks, strict=True) if leak}
            return found | {prompt.id: (ASKED_TWICE, "this run, or one named before, has the same prompt")
                            for prompt, _ in some if prompt.id in asked}

        def used(prompt: Prompt) -> None:
            prompts.write(OtherPrompt(**{one.name: getattr(prompt, one.name) for one in fields(Prompt)},
                                      run=other.name))

        targets = self._targets(other, stage)
        found = sorter.sort(other.folder, stage, STEP, targets, refused=refused, used=used)
        account = found.row_counts(f"other_runs/{stage}/{len(self.accounts)}")
        if targets:
            self.targets[account.stage.removeprefix("dataset/")] = targets
        self.accounts.append(account)
        self.details.append({"run": other.name, "teacher": other.teacher, "stage": stage, "prompts": account.n_in,
                             "rows": account.n_out})
        return account

    def _targets(self, other: OtherRun, stage: str) -> Targets | None:
        objective = self.objectives[stage]
        if isinstance(objective, LogitsObjective):
            refuse_without_top_logprobs(other.folder, stage)
        return targets_of(other.folder, {stage: objective}, self.student, self.encoder).get(stage)


def _ids(prompts: Path) -> set[str]:
    return set(read_columns(prompts, ["id"])["id"].to_pylist()) if prompts.is_file() else set()
