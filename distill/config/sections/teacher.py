"""The parts ``teacher`` and ``filters``: who answers, how, and which answers are not trained on."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from distill.config.sections.base import Section
from distill.config.sections.models import EngineConfig, Model, TransformersEngine


class SamplingConfig(Section):
    """Decoding of one family of prompts. An answer ends before the first of the ``stop`` strings.

    One that begins with a stop string is empty, and is dropped and counted as such.
    """

    temperature: float = Field(ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(ge=1)
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()


class TeacherSampling(Section):
    """Ours throughout: the paper gives no decoding settings for the teacher."""

    knowdist: SamplingConfig = SamplingConfig(temperature=0.7, top_p=0.95, max_tokens=1024)
    icldist: SamplingConfig = SamplingConfig(temperature=0.0, max_tokens=64)
    general: SamplingConfig = SamplingConfig(temperature=0.0, max_tokens=256)


class ChatTemplate(Section):
    """Which families of prompts the teacher gets as a turn of a chat; ``true`` or ``false`` alone means all."""

    knowdist: bool = True
    icldist: bool = True
    general: bool = True

    @model_validator(mode="before")
    @classmethod
    def _one_for_all(cls, value: Any) -> Any:
        return dict.fromkeys(("knowdist", "icldist", "general"), value) if isinstance(value, bool) else value


class Teacher(Section):
    """Who answers, how, and in what portions the answers are stored."""

    model: Model
    engine: EngineConfig = TransformersEngine()
    chat_template: ChatTemplate = Field(ChatTemplate(), description="ours")
    sampling: TeacherSampling = TeacherSampling()
    shard_size: int = Field(2000, ge=1, description="ours: prompts in a shard, about; never more than twice this")


class Filters(Section):
    """Which answers are not trained on (ours; the paper filters nothing and lists that as a limitation)."""

    truncated: bool = Field(True, description="answers cut off by max_tokens")
    off_list: bool = Field(True, description="ICLDist answers that are no label, or no list of labels, of the prompt")
    copied: bool = Field(True, description="KnowDist answers that only repeat the text")
    repetitive: bool = Field(True, description="answers that go round in circles")
    agreement: bool = Field(False, description="single labels that most prompts on the same text do not give; needs "
                                               "prompts.icldist.prompts_per_text of 2 or, better, 3")
