"""The part ``teacher``: who answers, and how."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from distill.config.sections.base import Processes, Seconds, Section, runtime_field
from distill.config.sections.engines import MOST_TOP_LOGPROBS, TeacherEngine, TransformersEngine
from distill.config.sections.models import Model


class SamplingConfig(Section):
    """Decoding of one family of prompts. An answer ends before the first of the ``stop`` strings.

    One that begins with a stop string is empty, and is dropped and counted as such.
    """

    temperature: float = Field(ge=0, description="0: greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="share of probability that is drawn from")
    max_tokens: int = Field(ge=1, description="of an answer")
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), description="strings that end an answer")


class TeacherSampling(Section):
    """Ours throughout: the paper gives no decoding settings for the teacher."""

    knowdist: SamplingConfig = SamplingConfig(temperature=0.7, top_p=0.95, max_tokens=1024)
    icldist: SamplingConfig = SamplingConfig(temperature=0.0, max_tokens=64)
    general: SamplingConfig = SamplingConfig(temperature=0.0, max_tokens=256)


class ChatTemplate(Section):
    """Which families of prompts the teacher gets as a turn of a chat; ``true`` or ``false`` alone means all."""

    knowdist: bool = Field(True, description="whether its prompts are asked in a turn of a chat")
    icldist: bool = Field(True, description="whether its prompts are asked in a turn of a chat")
    general: bool = Field(True, description="whether its prompts are asked in a turn of a chat")

    @model_validator(mode="before")
    @classmethod
    def _one_for_all(cls, value: Any) -> Any:
        return dict.fromkeys(("knowdist", "icldist", "general"), value) if isinstance(value, bool) else value


class Logprobs(Section):
    """What is kept of the teacher's log-probabilities beside its answers."""

    labels: bool = runtime_field(
        False, description="of prompts that one label of a list answers: of every label as a whole")
    top_k: int | None = runtime_field(
        None, ge=1, le=MOST_TOP_LOGPROBS, description="of all other answers: of so many tokens, the likeliest, at each "
                                                       "token of the answer (20 is usual; 126 bytes a token)")


class Budget(Section):
    """Where generation stops, cleanly and resumably; of the whole run, both stages. Ours.

    A GPU hour is an hour of one GPU that the teacher holds, loading included; where there is no GPU, of the machine.
    """

    max_gpu_hours: float | None = Field(
        None, gt=0, description="generation stops there, to be resumed; default: no cap")
    max_cost: float | None = Field(None, gt=0, description="in the currency of the prices")
    approve: bool = Field(
        False, description="stop after the pilot, until somebody who has seen the forecast says go on")


class Teacher(Section):
    """Who answers, how, in what portions the answers are stored, and what it may cost."""

    model: Model
    engine: TeacherEngine = TransformersEngine()
    chat_template: ChatTemplate = Field(ChatTemplate(), description="ours")
    sampling: TeacherSampling = TeacherSampling()
    structured: bool = Field(
        False, description="let the engine write nothing but labels of the prompt's list (vllm, openai). Ours")
    logprobs: Logprobs = runtime_field(Logprobs())
    shard_size: int = Field(2000, ge=1, description="ours: prompts in a shard, about; never more than twice this")
    data_parallel: Processes = runtime_field(
        1, description="engine processes, each on GPUs of its own, fed from one queue of shards")
    stall_seconds: Seconds = runtime_field(
        900.0, gt=0, description="an engine process without a sign of life for so long is replaced")
    pilot_rows: int | float = runtime_field(
        0.01, gt=0, description="rows (below 1: their share; at least 64) after which the cost is forecast")
    max_unusable: float = runtime_field(
        0.5, ge=0, le=1, description="share of a stage's answers that may be empty, cut off, off their list of labels "
                                     "or failed: above it the stage warns, and stops after the pilot. Ours")
    price_per_gpu_hour: float | None = runtime_field(
        None, ge=0, description="for forecasts and budgets, in any currency")
    price_per_million_prompt_tokens: float | None = runtime_field(None, ge=0, description="of an endpoint")
    price_per_million_output_tokens: float | None = runtime_field(None, ge=0, description="of an endpoint")
    budget: Budget = runtime_field(Budget())

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.budget.max_cost is not None and not self.has_prices:
            raise ValueError("budget.max_cost is set, but no price; set price_per_gpu_hour, or "
                             "price_per_million_prompt_tokens and price_per_million_output_tokens")
        return self

    @model_validator(mode="after")
    def _engine_can(self) -> Self:
        self.engine = self.engine.serving(self.model)
        kind, can = self.engine.kind, self.engine.capabilities
        counts_hours = self.price_per_gpu_hour or self.budget.max_gpu_hours is not None
        if counts_hours and can.remote and not self.engine.n_remote_gpus:
            raise ValueError("price_per_gpu_hour or budget.max_gpu_hours counts GPU hours, but nothing says how "
                             "many GPUs are behind the addresses; set engine.gpus, or use the prices of tokens")
        if self.data_parallel > 1 and can.remote:
            raise ValueError(f"data_parallel starts engines on this machine, but the engine {kind} has none; name "
                             "more base_urls instead, or raise engine.concurrency")
        if self.structured and not can.structured_output:
            raise ValueError(f"structured is set, but the engine {kind} cannot hold a model to a list of labels; "
                             "use the engine vllm, or openai with 'vllm serve', or set structured to false")
        if self.logprobs.labels and not can.label_logprobs:
            raise ValueError(f"logprobs.labels is set, but the engine {kind} does not say how likely a label is; use "
                             "the engine vllm or transformers, or openai with its tokenizer and send_tokens and a "
                             "server of vLLM's, or set logprobs.labels to false")
        self._refuse_top_k(kind, can.top_logprobs)
        return self

    def _refuse_top_k(self, kind: str, can: bool) -> None:
        k, most = self.logprobs.top_k, self.engine.most_top_logprobs
        if k and not can:
            raise ValueError(f"logprobs.top_k is set, but the engine {kind} does not say what else a token might have "
                             "been; use the engine vllm or transformers, or openai with its tokenizer and send_tokens "
                             "and a server of vLLM's, or set logprobs.top_k to null")
        if k and k > most:
            raise ValueError(f"logprobs.top_k is {k}, but the engine gives at most {most} (max_logprobs in its "
                             "'extra'); raise that, or lower top_k")

    @property
    def has_prices(self) -> bool:
        """Say whether what the teacher does can be told in money."""
        return any(price is not None for price in (
            self.price_per_gpu_hour, self.price_per_million_prompt_tokens, self.price_per_million_output_tokens))
