"""The part ``filters``: which of the teacher's answers are not trained on.

Ours throughout: the paper filters nothing, and lists that as its first limitation. Every filter may be given as
``true`` or ``false`` alone; a mapping of its thresholds switches it on, unless it says ``enabled: false``.
"""

from typing import Annotated, Any

from pydantic import Field, model_validator

from distill.config.sections.base import Section, runtime_field
from distill.config.sections.plugin import Plugin


class Switch(Section):
    """A filter that can be switched off."""

    enabled: bool = Field(True, description="whether it is asked")

    @model_validator(mode="before")
    @classmethod
    def _true_or_false_alone(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return {"enabled": value}
        if not isinstance(value, dict | cls):
            raise ValueError("a filter is true, false, or a mapping of its thresholds")
        return value


class TruncatedFilter(Switch):
    """Answers cut off by ``max_tokens``."""


class RefusalFilter(Switch):
    """Answers in which the teacher declines ("I'm sorry, but I can't …", "As an AI language model, …")."""

    phrases: list[Annotated[str, Field(min_length=4)]] = Field(
        [], description="what else a refusal may begin with, as in other languages")


class OffListFilter(Switch):
    """ICLDist answers that are no label, or no list of labels, of their prompt; or no tuples as their task has them."""


class CopiedFilter(Switch):
    """KnowDist answers that only repeat the prompt, and rewritings that are the text itself."""

    threshold: float = Field(
        0.8, ge=0, le=1, description="share of the answer's word runs that may stand in the prompt already")
    rewriting_threshold: float = Field(
        0.7, ge=0, le=1, description="word runs that the text and its rewritten version may share, of those of both")
    run_length: int = Field(3, ge=1, le=20, description="words in a run")


class RepetitiveFilter(Switch):
    """Free answers that go round in circles."""

    threshold: float = Field(0.4, ge=0, le=1, description="share of the answer that one repeated run of words may be")
    min_repeats: int = Field(4, ge=2, description="a run, or a line, that comes less often is no loop")
    min_words: int = Field(16, ge=1, description="shorter answers are not judged by their runs")
    min_line_words: int = Field(4, ge=1, description="shorter lines, such as headings, may come back")


class WrongLanguageFilter(Switch):
    """KnowDist answers neither in the language of the prompts nor in the text's; rewritings not in the text's."""

    languages: list[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]] = Field(
        ["en"], description="languages that an analysis, or a plan for a rewriting, may be in whatever the text's")
    min_chars: int = Field(80, ge=1, description="of shorter answers, and shorter texts, the language is not known")
    confidence: float = Field(0.9, gt=0, le=1, description="how sure the language identifier must be")


class AgreementFilter(Switch):
    """Single labels, and sets of tuples, that too few of the prompts on the same text give.

    Needs ``prompts.icldist.prompts_per_text`` of 2 or, better, 3.
    """

    share: float = Field(0.5, ge=0, le=1, description="more than this share of the prompts must give it; 1: all")
    min_prompts: int = Field(2, ge=2, description="so many prompts must give it at least")


class Filters(Section):
    """Which answers are not trained on. Empty ones never are."""

    all: bool = runtime_field(True, description="false: filters that are not named are off")

    refusal: RefusalFilter = RefusalFilter()
    truncated: TruncatedFilter = TruncatedFilter()
    off_list: OffListFilter = OffListFilter()
    copied: CopiedFilter = CopiedFilter()
    repetitive: RepetitiveFilter = RepetitiveFilter()
    wrong_language: WrongLanguageFilter = WrongLanguageFilter()
    agreement: AgreementFilter = AgreementFilter(enabled=False)
    plugins: list[Plugin] = Field([], description="filters of your own, asked last: distill/dataset/README.md")

    @model_validator(mode="before")
    @classmethod
    def _others_off(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("all") is False:
            return {**{name: False for name in cls.model_fields if name not in ("all", "plugins")}, **value}
        return value
