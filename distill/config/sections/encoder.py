"""The config of an encoder student: a small classifier (Shishaev, 2025)."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from distill.config.sections.base import Format, LocalPath, Processes, Section, Seed, runtime_field
from distill.config.sections.engines import TeacherEngine, TransformersEngine
from distill.config.sections.models import Model
from distill.run.folder import FORMAT

RUN_FILE = "encoder.yaml"
"""Under which name a run keeps its config: not that of the pipeline's, so that neither is taken for the other."""
SST5 = ("very negative", "negative", "neutral", "positive", "very positive")


class EncoderData(Section):
    """Texts with labels 0 to ``classes`` - 1: a folder with train.txt, dev.txt and test.txt (``LABEL TEXT`` a line).

    Or ``hub:NAME``, a data set on the Hub with the splits train, validation and test and the columns text and label. Or
    neither: then all texts have the teacher's labels, and a part of them is held out for dev and test.
    """

    path: LocalPath | None = Field(
        None, description="folder with train.txt, dev.txt and test.txt, or hub:NAME; default: no text has a gold label")
    texts: LocalPath | None = Field(
        None, description="texts for the teacher to label: a file (.txt: one a line; .jsonl, .csv, .parquet), or a "
                          "folder of such")
    field: str = Field("text", min_length=1, description="the column that holds them, in files that have columns")
    held_out: float = Field(
        0.1, gt=0, lt=0.5, description="without path: the share of the texts for dev, and as many for test; by a hash "
                                       "of the text")
    test: LocalPath | None = Field(
        None, description="without path: a file with gold labels (LABEL TEXT a line) for the test, which decides "
                          "nothing; default: texts that are held out, with the teacher's labels")
    names: list[str] = Field(list(SST5), min_length=2, description="of the classes, lowest first")

    @model_validator(mode="after")
    def _every_name_is_another(self) -> Self:
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"names holds a name twice ({', '.join(self.names)}). Each class needs one of its own")
        if self.path and self.test:
            raise ValueError("test names a file beside path, which has a test split of its own. Take one of them out")
        return self


Verbalizer = list[str | list[str]]
"""What each class is called: a word, or several that mean the same."""


def words_by_class(verbalizer: Verbalizer | None, names: list[str]) -> list[list[str]]:
    """Return the words of each class; without a verbalizer, its name."""
    return [[words] if isinstance(words, str) else list(words) for words in verbalizer or names]


class TeacherLabels(Section):
    """A teacher that labels texts, asked as in ICLDist (Table 11); how it is asked beyond that is ours."""

    model: Model
    engine: TeacherEngine = TransformersEngine()
    chat_template: bool = Field(False, description="whether the teacher is asked in a turn of a chat")
    format: Literal["basic", "mi"] = Field("basic", description="mi: the instruction names no labels")
    verbalizer: Verbalizer | None = Field(
        None, description="what the classes are called in the prompts, a word or a list of words for each; default: "
                          "data.names. Words that differ in their first token are scored much faster")
    demonstrations: int = Field(5, ge=0, description="solved examples in a prompt, where texts have gold labels")
    pool: int = Field(50, ge=1, description="sentences with gold labels from which demonstrations are drawn")
    soft: bool = Field(True, description="train on the probabilities of the labels, where the engine scores them")
    calibrate: bool = Field(False, description="divide the probabilities by their mean over all texts")
    max_tokens: int = Field(16, ge=1, description="tokens of a label that is written, where the engine does not score "
                                                  "labels; a teacher that reasons first needs thousands")
    max_unusable: float = runtime_field(
        0.5, ge=0, le=1, description="share of the texts whose answers may name no label; above it, none is used")
    weight: float = Field(0.5, gt=0, lt=1, description="the teacher's share where both labels are trained on")

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        self.engine = self.engine.serving(self.model)
        if self.format == "mi" and not self.demonstrations:
            raise ValueError("format is mi and demonstrations is 0, so that nothing says which labels there are. Set "
                             "demonstrations to 1 or more, or format to basic")
        return self


class RunLabels(Section):
    """Labels that a run's teacher has given already: the distributions over labels beside its answers."""

    run: LocalPath = Field(description="folder of the run")
    task: str = Field("sentiment", min_length=1, description="of which prompts: those of this task of ICLDist")
    verbalizer: Verbalizer | None = Field(
        None, description="which labels of the prompts mean each class, a word or a list of words for each; default: "
                          "data.names")
    calibrate: bool = Field(
        False, description="of each format and label set, the mean distribution is taken off first")


def _cls(pooling: Any) -> Any:
    return "cls" if pooling == "first" else pooling  # as models that are saved call it


class Head(Section):
    """Two linear layers with dropout before each, over the pooled embedding."""

    pooling: Annotated[Literal["mean", "cls"], BeforeValidator(_cls)] = Field(
        "mean", description="ours: the mean over all tokens, or the first one ([CLS])")
    hidden: int | None = Field(None, ge=1, description="width between the layers; default: the backbone's")
    dropout: float = Field(0.1, ge=0, lt=1, description="before the classifier")


class Unfreezing(Section):
    """When the backbone is trained (Section 3). Epochs are counted from 0, so ``epoch`` of them train the head alone.

    ``after_n``: all of it from ``epoch`` on. ``layerwise``: from then on one more layer every ``interval`` epochs, the
    last layer first, the embeddings at the end.
    """

    strategy: Literal["never", "after_n", "layerwise"] = Field("never", description="which layers learn, and from when")
    epoch: int = Field(7, ge=0, description="from which one on the backbone learns")
    interval: int = Field(1, ge=1, description="epochs between layers")


class TripletLoss(Section):
    """Equation (1): each phrase with one random positive, and one random negative of a neighbouring class."""

    weight: float = Field(0.2, gt=0, description="of the triplet loss beside cross-entropy")
    margin: float = Field(1.0, gt=0, description="distance that far ends must keep")
    distance: Literal["squared", "euclidean"] = Field(
        "squared", description="equation (1) says squared; the author's notebook takes plain distances")
    in_batch_negatives: bool = Field(
        False, description="draw positives and negatives out of the batch (ours, for a third of the work), not out of "
                           "the train split")


class EncoderRates(Section):
    """Learning rates. From epoch ``decay_after`` on both shrink by ``decay`` an epoch (the author's notebook)."""

    head: float = Field(8e-5, gt=0, description="learning rate of the head")
    backbone: float = Field(8e-6, gt=0, description="learning rate of the backbone's top layer")
    decay: float = Field(0.9, gt=0, le=1, description="factor from a layer to the one below")
    decay_after: int = Field(7, ge=0, description="factor from an epoch to the next")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")


class EncoderConfig(Section):
    """A whole run of an encoder student."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the run's name, and its folder's below runs_dir")
    format: Format = runtime_field(FORMAT, description="version of run folders; written by us, to be left out")
    runs_dir: LocalPath = runtime_field("runs", description="from here where left out, else from the config's folder")
    seeds: list[Seed] = Field([42], min_length=1, description="one model each")
    data: EncoderData
    backbone: Model
    labels: Literal["gold", "teacher", "both"] = Field("gold", description="what the train split is trained on")
    teacher: TeacherLabels | None = None
    from_run: RunLabels | None = None
    prompt: bool = Field(False, description="put the task prompt of Section 3 before each text")
    max_length: int = Field(256, ge=8, description="tokens, the prompt's included; longer texts are cut and counted")
    head: Head = Head()
    unfreeze: Unfreezing = Unfreezing()
    triplet: TripletLoss | None = None
    rates: EncoderRates = EncoderRates()
    epochs: int = Field(30, ge=1, description="times that each text is seen")
    patience: int | None = Field(
        None, ge=1, description="stop after so many epochs without a better one on dev, once all is unfrozen")
    batch_size: int = Field(32, ge=1, description="texts of a step")
    at_once: Processes | None = runtime_field(
        None, description="seeds trained at the same time; default: one on each GPU, or else on each core")
    dtype: Literal["auto", "float32", "bfloat16"] = runtime_field(
        "auto", description="what is computed in; auto: bfloat16 on GPUs and on CPUs with AMX")

    @model_validator(mode="after")
    def _every_seed_is_another(self) -> Self:
        if twice := sorted({seed for seed in self.seeds if self.seeds.count(seed) > 1}):
            raise ValueError(f"seeds holds {', '.join(map(str, twice))} more than once, but each "
                             "makes one model. Name each seed once")
        return self

    @model_validator(mode="after")
    def _somebody_labels(self) -> Self:
        if self.labels != "gold" and self.teacher is None and self.from_run is None:
            raise ValueError(f"labels is {self.labels}, but no teacher is named. Set teacher.model.name, or "
                             "from_run.run to a run whose teacher has labelled")
        if self.labels == "gold" and (self.data.texts or self.from_run):
            raise ValueError(f"{'data.texts' if self.data.texts else 'from_run'} names texts without gold labels, but "
                             "labels is gold, so that nothing would be done with them. Set labels to teacher or both, "
                             "or take it out")
        if self.from_run and (self.teacher or self.data.texts):
            raise ValueError(f"{'teacher' if self.teacher else 'data.texts'} is set beside from_run, whose texts and "
                             "labels are those of a run. Take one of them out")
        if self.data.path is None and (self.labels != "teacher" or not (self.data.texts or self.from_run)):
            raise ValueError("data.path is not set, so that no text has a gold label. Set it; or data.texts and labels "
                             "to teacher, to learn what a teacher says of texts; or from_run.run and labels to teacher")
        return self

    @model_validator(mode="after")
    def _words_tell_the_classes(self) -> Self:
        for part, given in (("teacher", self.teacher), ("from_run", self.from_run)):
            if given is None or given.verbalizer is None:
                continue
            by_class = words_by_class(given.verbalizer, self.data.names)
            words = [word for some in by_class for word in some]
            if len(by_class) != len(self.data.names) or not all(by_class) or len(set(words)) < len(words):
                raise ValueError(f"{part}.verbalizer names {len(set(words))} different words for "
                                 f"{len(self.data.names)} classes, in {len(by_class)} entries. Name a word, or a list "
                                 "of words, for each class, in the order of data.names, and no word twice")
        if self.data.path is None and self.teacher and self.teacher.format == "mi":
            raise ValueError("teacher.format is mi, whose prompts tell the labels by demonstrations alone, but without "
                             "data.path there are none. Set it to basic")
        return self

    @model_validator(mode="after")
    def _prompt_names_the_classes(self) -> Self:
        if self.prompt and tuple(self.data.names) != SST5:
            raise ValueError("prompt is set, but it names the five classes of SST-5, and data.names are others. Set "
                             "prompt to false")
        return self

    @model_validator(mode="after")
    def _something_is_unfrozen(self) -> Self:
        if self.triplet and self.unfreeze.strategy == "never":
            raise ValueError("triplet is given, but unfreeze.strategy is never: the loss changes the backbone's "
                             "embeddings only. Set unfreeze.strategy to after_n or layerwise, or take triplet out")
        if self.unfreeze.strategy != "never" and self.unfreeze.epoch >= self.epochs:
            raise ValueError(f"unfreeze.epoch is {self.unfreeze.epoch}, but there are only {self.epochs} epochs, so "
                             "that the backbone would never be trained")
        return self
