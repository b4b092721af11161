"""The part ``prompts``: what the teacher is asked."""

from typing import Self

from pydantic import Field, model_validator

from distill.config.sections.base import Section


class KnowDist(Section):
    """Stage 1 prompts (Section 2.1, Tables 9 and 10). Switches: the ablation of Table 5."""

    samples: int = Field(1_000_000, ge=0, description="prompts to ask (Section 4.1)")
    analyze: bool = True
    rewrite: bool = True
    multi_perspective: bool = True
    prompts_per_text: int = Field(2, ge=1, le=8, description="ours: one of each method")

    @model_validator(mode="after")
    def _some_method(self) -> Self:
        if self.samples and not (self.analyze or self.rewrite):
            raise ValueError("analyze and rewrite are both off; turn one on, or set samples to 0")
        return self


class IclDist(Section):
    """Stage 2 prompts (Section 2.2, Tables 11 and 12). Switches: the ablation of Table 6."""

    samples: int = Field(400_000, ge=0, description="prompts to ask (Section 4.1)")
    prompts_per_text: int = Field(1, ge=1, le=9, description="ours; several are of one task in different formats")
    label_words: bool = True
    label_taxonomies: bool = True
    minimized_instructions: bool = True
    min_demonstrations: int = Field(1, ge=0, le=55)
    max_demonstrations: int = Field(16, ge=0, le=55)
    demonstrations: str = Field("shipped:data/demonstrations.json", description="the pool of 55 (Section 2.2)")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_demonstrations > self.max_demonstrations:
            raise ValueError("min_demonstrations is larger than max_demonstrations")
        return self


class General(Section):
    """General tasks of stage 2, from Super-NaturalInstructions files (task diversification, TD in Table 6)."""

    enabled: bool = True
    samples: int = Field(100_000, ge=0, description="prompts to ask (Section 4.1)")
    path: str = Field("shipped:data/natural_tasks", description="folder of Super-NaturalInstructions task files")
    max_tasks: int = Field(100, ge=1, description="tasks to use, about 100 (Section 2.2)")
    max_examples: int = Field(4, ge=0, description="ours: positive examples shown, drawn from 0 to this many")


class Prompts(Section):
    """What the teacher is asked."""

    knowdist: KnowDist = KnowDist()
    icldist: IclDist = IclDist()
    general: General = General()
