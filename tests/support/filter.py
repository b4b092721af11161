"""Prompts and answers for tests of the quality filter."""

from pathlib import Path

from distill.config.prompt_files import knowdist_prompts
from distill.config.schema import Filters
from distill.dataset.filters import filters_of, first_finding
from distill.generation.manifests import commit
from distill.prompting.template import fill as fill_in
from distill.run.records import Prompt, Response, write_records

POLARITY = ["positive", "negative", "neutral"]
EMOTIONS = ["happiness", "sad", "fear", "anger", "neutral"]
TEXT = "The battery died after two days and nobody at the shop wanted to hear about it, so I sent it back."

ALL_OFF = Filters(**dict.fromkeys(Filters.model_fields.keys() - {"all", "plugins"}, False))


def knowdist(prompt_id: str = "k", text: str = TEXT) -> Prompt:
    return Prompt(prompt_id, "t", "knowdist", "rewrite/target", f"Rewrite the following text.\n\nText: {text}")


def icldist(prompt_id: str = "i", labels: list[str] = POLARITY, multi_label: bool = False) -> Prompt:
    return Prompt(prompt_id, "t", "icldist", "sentiment/lw", f"Sentence: {TEXT}\nOutput:", labels, multi_label)


def answer(output: str, prompt_id: str = "k", finish_reason: str = "stop", failure: str = "") -> Response:
    return Response(prompt_id, output, finish_reason, 30, 9, failure)


def reason(prompt: Prompt, response: Response, config: Filters | None = None) -> str:
    found = first_finding(filters_of(config or Filters()), prompt, response)
    return found[0] if found else ""


def asked(kind: str, text: str = TEXT, prompt_id: str = "k") -> Prompt:
    """A KnowDist prompt as the paper words it (Tables 9 and 10)."""
    method, perspective = kind.split("/")
    file = knowdist_prompts()
    entry = file.perspectives[perspective].methods[method]
    return Prompt(prompt_id, "t", "knowdist", kind, fill_in(file.layout, Instruction=entry.instruction, Text=text))


def fill(run: Path, stage: str, prompts: list[Prompt], responses: list[Response], shards: int = 2) -> None:
    """Write a stage's prompts, and its responses dealt out to finished shards."""
    write_records(run / "prompts" / f"{stage}.parquet", Prompt, prompts)
    folder = run / stage / "responses"
    folder.mkdir(parents=True)
    for number in range(shards):
        commit(folder, f"shard-{number:05d}", str(number), {"prompts": "x"}, responses[number::shards], 1.0)
