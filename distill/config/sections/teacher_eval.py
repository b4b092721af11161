"""The part ``teacher_eval``: what the teacher's answers are worth (Appendix D.1, Tables 22 and 24)."""

from typing import Self

from pydantic import Field, model_validator

from distill.config.sections.base import Section
from distill.config.sections.engines import TeacherEngine, TransformersEngine
from distill.config.sections.models import Model


class Gold(Section):
    """The teacher is asked texts whose labels are known: those of the pool of demonstrations (Table 24)."""

    examples: int = Field(50, ge=0, description="texts a task (Appendix D.1); 0: not asked")


class Judge(Section):
    """Another model that marks the teacher's analyses (Table 22). The model, and how it is asked, are ours."""

    model: Model
    engine: TeacherEngine = TransformersEngine()
    responses_per_perspective: int = Field(20, ge=1, description="analyses a perspective (Appendix D.1)")
    max_tokens: int = Field(256, ge=1, description="tokens of a verdict; one that reasons first needs more")

    @model_validator(mode="after")
    def _served(self) -> Self:
        self.engine = self.engine.serving(self.model)
        return self


class TeacherEval(Section):
    """What the teacher's answers are worth. Nothing is trained on, or left out, because of it."""

    gold: Gold = Gold()
    judge: Judge | None = Field(None, description="default: no judge")
