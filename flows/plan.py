"""The steps of the pipeline in one table, and which of them a run's config asks for.

To add a step: docs/architecture.md.
"""

from dataclasses import dataclass

from distill.run.markers import is_finished, read_done
from distill.training.stages import MODELS, SOURCES, sources_of
from flows.run import Run

STAGES = SOURCES
"""The stages that have prompts, answers and training rows of their own."""


@dataclass(frozen=True)
class Step:
    """A step: a function of :mod:`flows.steps`, and the ``part`` it is called with, if it has several.

    ``folder``: the stage's folder in a run, in which a marker says that it is done ("" where none does). ``command``
    makes it, ``title`` is its name for people. ``computes``: with a model, on devices.
    """

    name: str
    part: str | None
    folder: str
    command: str
    title: str
    computes: bool = False

    @property
    def full_title(self) -> str:
        """The title, and which part it is."""
        return f"{self.title}: {self.part}" if self.part else self.title


STEPS = (
    Step("collect", None, "corpus", "collect", "corpus"),
    Step("prompts", None, "prompts", "prompts", "prompts"),
    *(Step("generate", stage, stage, "generate", "teacher", True) for stage in STAGES),
    *(Step("teacher_eval", part, f"teacher_eval/{part}", "teacher-eval", "teacher evaluation", True)
      for part in ("gold", "judge")),
    Step("dataset", None, "dataset", "train", "dataset"),
    *(step for stage, model in MODELS.items() for step in (
        Step("train", stage, model, "train", "SFT", True),
        Step("gate", stage, f"gate/{stage}", "train", "gate", True))),
    Step("validate", None, "validation", "evaluate", "validation", True),
    Step("calibrate", None, "calibration", "evaluate", "calibration", True),
    Step("evaluate", None, "sentibench", "evaluate", "SentiBench", True),
    Step("report", None, "", "report", "report"),
)
FOLDERS = tuple(dict.fromkeys(step.folder for step in STEPS if step.folder))
"""The folders of a run that bear a marker, in the order in which they are made."""


def find_step(name: str, part: str | None = None) -> Step:
    """Return a row of the table."""
    return next(step for step in STEPS if (step.name, step.part) == (name, part))


def command_for(folder: str) -> str:
    """Return the command that makes a stage's folder."""
    return next(f"distill {step.command}" for step in STEPS if step.folder == folder)


def trained_stages(run: Run) -> list[str]:
    """Return the stages that are trained, in order: those of ``train.stages`` that have rows."""
    return [stage for stage in run.config.train.stages if any(_has_rows(run, source) for source in sources_of(stage))]


def gated_stages(run: Run) -> list[str]:
    """Return the stages after which the student must pass the gate."""
    return trained_stages(run) if run.config.train.gate.enabled else []


def untrained_models(run: Run) -> set[str]:
    """Return the model folders of stages that are left out."""
    return set(MODELS.values()) - {MODELS[stage] for stage in trained_stages(run)}


def teacher_eval_parts(run: Run) -> list[str]:
    """Return how the teacher is evaluated: gold, judge, both or not at all."""
    from distill.teacher_eval.stage import wanted_parts

    return wanted_parts(run.config.teacher_eval) if run.config.teacher else []


def steps_of(run: Run) -> list[Step]:
    """Return the steps that a run's config asks for, in their order."""
    parts: dict[str, list[str]] = {
        "teacher_eval": teacher_eval_parts(run), "train": trained_stages(run), "gate": gated_stages(run)}
    left_out = {"collect", "prompts", "generate"} if run.config.rows else set()
    return [step for step in STEPS if step.name not in left_out
            and (step.name not in parts or step.part in parts[step.name])]


def planned(run: Run) -> list[str]:
    """Return the folders that a run's config asks for, in their order."""
    return [step.folder for step in steps_of(run) if step.folder]


def _has_rows(run: Run, source: str) -> bool:
    """Say whether there are rows of a stage at all: one whose samples are 0 has none."""
    if run.config.rows:
        return bool(getattr(run.config.rows, source))
    prompts = run.config.prompts
    general = prompts.general.samples if prompts.general.enabled else 0
    asked = {"knowdist": prompts.knowdist.samples, "icldist": prompts.icldist.samples + general}
    return asked[source] > 0 or _in_other_runs(run, source)


def _in_other_runs(run: Run, source: str) -> bool:
    """Say whether a run that ``dataset.other_runs`` names has prompts of a stage, or had when the rows were made."""
    if not (paths := run.config.dataset.other_runs):
        return False
    from distill.dataset.other_runs import asked_by

    if source in asked_by(paths, [source]):
        return True
    made = read_done(run.folder / "dataset")["details"] if is_finished(run.folder / "dataset") else {}
    return any(one["stage"] == source for one in made.get("other_runs", []))
