"""Which steps a run's config asks for."""

from distill.training.stages import MODELS, SOURCES, sources_of
from flows.run import Run

STAGES = SOURCES
"""The stages that have prompts, answers and training rows of their own."""


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
    """Return what is asked about the teacher's quality: gold, judge, both or nothing."""
    from distill.teacher_eval.stage import wanted_parts

    return wanted_parts(run.config.teacher_eval) if run.config.teacher else []


COMMANDS = {
    "corpus": "distill collect", "prompts": "distill prompts", "knowdist": "distill generate",
    "icldist": "distill generate", "teacher_eval/gold": "distill teacher-eval", "teacher_eval/judge": "distill teacher-eval",
    "dataset": "distill train", "models/knowdist": "distill train", "models/final": "distill train",
    "gate/knowdist": "distill train", "gate/icldist": "distill train", "gate/unified": "distill train",
    "validation": "distill evaluate", "sentibench": "distill evaluate"}
"""Which command makes each stage of a run, in their order."""


def planned(run: Run) -> list[str]:
    """Return the stages that a run's config asks for, in their order."""
    from distill.teacher_eval.stage import PARTS

    left_out = untrained_models(run) | {f"gate/{stage}" for stage in MODELS if stage not in gated_stages(run)}
    left_out |= {"corpus", "prompts", *STAGES} if run.config.rows else set()
    left_out |= {f"teacher_eval/{part}" for part in PARTS if part not in teacher_eval_parts(run)}
    return [stage for stage in COMMANDS if stage not in left_out]


def computing_steps(run: Run) -> list[tuple[str, str | None, str]]:
    """Return the steps that compute with models: step, stage, and the folder in which a marker says that it is done."""
    asked = [("generate", stage, stage) for stage in STAGES] if run.config.teacher and not run.config.rows else []
    return [*asked, *(("quality", part, f"teacher_eval/{part}") for part in teacher_eval_parts(run)),
            *(("train", stage, MODELS[stage]) for stage in trained_stages(run)),
            *(("gate", stage, f"gate/{stage}") for stage in gated_stages(run)),
            ("check", None, "validation"), ("evaluate", None, "sentibench")]


def _has_rows(run: Run, source: str) -> bool:
    """Say whether there are rows of a stage at all: one whose samples are 0 has none."""
    if run.config.rows:
        return bool(getattr(run.config.rows, source))
    prompts = run.config.prompts
    if source == "knowdist":
        return prompts.knowdist.samples > 0
    return prompts.icldist.samples > 0 or (prompts.general.enabled and prompts.general.samples > 0)
