"""The part ``prompts``: what the teacher is asked."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from distill.config.sections.base import LocalPath, Processes, Section, runtime_field


def _weighty(weight: float) -> float:
    if weight and not 1e-6 <= weight <= 1e6:
        raise ValueError("a weight is 0, or from 0.000001 to 1,000,000")
    return weight


Weight = Annotated[float, Field(ge=0), AfterValidator(_weighty)]


class KnowDistWeights(Section):
    """How often a method and a perspective are asked for, relative to the others; 0: never. Ours: all alike.

    A method and a perspective together have the product of their weights. BASIC, which stands alone, has none.
    """

    analyze: Weight = 1
    rewrite: Weight = 1
    target: Weight = 1
    expression: Weight = 1
    emotion: Weight = 1
    background: Weight = 1


class IclDistWeights(Section):
    """How often a task and a strategy are asked for, relative to the others; 0: never. Ours: all alike.

    A text gets a task by the weights of the tasks, then strategies by the weights of those that the task has:
    label words (lw) are of the sentiment task, label taxonomies (lt) of the emotion task; mi: minimised instructions.
    """

    sentiment: Weight = 1
    emotion: Weight = 1
    basic: Weight = 1
    lw: Weight = 1
    lt: Weight = 1
    mi: Weight = 1


class KnowDist(Section):
    """Stage 1 prompts (Section 2.1, Tables 9 and 10). Switches: the ablation of Table 5."""

    samples: int = Field(1_000_000, ge=0, description="prompts to ask (Section 4.1)")
    analyze: bool = True
    rewrite: bool = True
    multi_perspective: bool = True
    prompts_per_text: int = Field(2, ge=1, le=8, description="ours: one of each method")
    weights: KnowDistWeights = KnowDistWeights()

    @model_validator(mode="after")
    def _some_method(self) -> Self:
        weights = self.weights
        if not self.samples:
            return self
        if not (self.analyze or self.rewrite):
            raise ValueError("analyze and rewrite are both off; turn one on, or set samples to 0")
        if not ((self.analyze and weights.analyze) or (self.rewrite and weights.rewrite)):
            raise ValueError("every method that is on has weight 0; raise weights.analyze or weights.rewrite, or set "
                             "samples to 0")
        if self.multi_perspective and not any((weights.target, weights.expression, weights.emotion,
                                               weights.background)):
            raise ValueError("every perspective has weight 0; raise one of weights.target, expression, emotion and "
                             "background, or set samples to 0")
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
    demonstrations: LocalPath = Field("shipped:data/demonstrations.json", description="the pool of 55 (Section 2.2)")
    weights: IclDistWeights = IclDistWeights()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_demonstrations > self.max_demonstrations:
            raise ValueError("min_demonstrations is larger than max_demonstrations")
        return self

    @model_validator(mode="after")
    def _some_strategy(self) -> Self:
        weights = self.weights
        if self.samples and not (weights.sentiment or weights.emotion):
            raise ValueError("both tasks have weight 0; raise weights.sentiment or weights.emotion, or set samples to "
                             "0")
        mi = self.minimized_instructions and weights.mi
        for task, weight, own in (("sentiment", weights.sentiment, self.label_words and weights.lw),
                                  ("emotion", weights.emotion, self.label_taxonomies and weights.lt)):
            if self.samples and weight and not (weights.basic or own or mi):
                raise ValueError(f"every strategy of the task {task} is off or has weight 0; raise one's weight, or "
                                 f"set weights.{task} to 0")
        return self


# Section 2.2 asks for "natural language understanding tasks" and lists none. Our reading: of the categories of
# Super-NaturalInstructions, those are out whose answer is a text to be written, a translation, a program or what one
# would return, a sum, or nothing that the category's name says.
NO_UNDERSTANDING = (
    "Code to Text", "Data to Text", "Dialogue Generation", "Entity Generation", "Explanation",
    "Grammar Error Correction", "Mathematics", "Misc.", "Number Conversion", "Paraphrasing", "Poem Generation",
    "Program Execution", "Question Decomposition", "Question Generation", "Question Rewriting", "Sentence Composition",
    "Sentence Compression", "Sentence Expansion", "Sentence Perturbation", "Story Composition", "Style Transfer",
    "Summarization", "Text Completion", "Text Simplification", "Text to Code", "Title Generation", "Translation",
    "Wrong Candidate Generation")


class General(Section):
    """General tasks of stage 2, from Super-NaturalInstructions files (task diversification, TD in Table 6).

    A file that does not say its languages or categories is not left out for them.
    """

    enabled: bool = True
    samples: int = Field(100_000, ge=0, description="prompts to ask (Section 4.1)")
    path: LocalPath = Field("shipped:data/natural_tasks", description="folder of Super-NaturalInstructions task files")
    max_tasks: int = Field(100, ge=1, description="tasks to use, about 100 (Section 2.2)")
    languages: list[str] = Field(["English"], description="ours: languages that a task's input, output and instruction "
                                                          "may be in; []: any")
    left_out_categories: list[str] = Field(
        list(NO_UNDERSTANDING), description="ours: categories that are no language understanding (Section 2.2)")
    max_examples: int = Field(4, ge=0, description="ours: positive examples shown, drawn from 0 to this many")


class Prompts(Section):
    """What the teacher is asked. The ``samples`` of the three families are their weights."""

    knowdist: KnowDist = KnowDist()
    icldist: IclDist = IclDist()
    general: General = General()
    workers: Processes | None = runtime_field(None, description="processes that build prompts; default: one a core")
