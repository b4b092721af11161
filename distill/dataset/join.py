"""Prompts and the teacher's responses, each prompt with its own, in bounded memory.

The prompts of a stage stand in the order of the hashes of their ids, and every shard holds the responses to a range
of that order: the two are read side by side, and no more than a shard of responses is in memory.
"""

from collections.abc import Iterator
from pathlib import Path

from distill.errors import RunError
from distill.generation.manifests import read_responses
from distill.run.records import Prompt, Response, read_records

_REBUILD = "Prompts and responses are not of the same making: run the generation again."


def joined(run: Path, stage: str) -> Iterator[tuple[Prompt, Response]]:
    """Yield every prompt of a finished stage with its response, in the order of the prompts' file.

    Where the prompts are in another order, as in runs of earlier versions, the result is the same, but all
    responses may have to be held at once.

    Raises:
        RunError: a prompt has no response, or a response no prompt; or a shard is damaged.
    """
    folder = run / stage / "responses"
    portions = _portions(folder)
    waiting: dict[str, Response] = {}
    for prompt in read_records(run / "prompts" / f"{stage}.parquet", Prompt):
        while prompt.id not in waiting:
            portion = next(portions, None)
            if portion is None:
                raise RunError(f"The prompt {prompt.id} has neither a response nor a failure in {folder}. {_REBUILD}")
            if not waiting.keys().isdisjoint(portion):
                raise RunError(f"The prompt {min(waiting.keys() & portion)} has two responses in {folder}. {_REBUILD}")
            waiting |= portion
        yield prompt, waiting.pop(prompt.id)
    for portion in portions:
        waiting |= portion
    if waiting:
        raise RunError(f"{len(waiting)} responses in {folder} belong to no prompt of this run, or are second ones "
                       f"(the first: {min(waiting)}). {_REBUILD}")


def joined_so_far(run: Path, stage: str) -> Iterator[tuple[Prompt, Response]]:
    """Yield the prompts of a stage that have a response in a finished shard, each with it.

    Nothing is promised of the order. Prompts in the order of their hashes are read once and shard by shard; those
    of runs of earlier versions are read twice, the second time with all responses in memory.
    """
    portions = _portions(run / stage / "responses")
    path = run / "prompts" / f"{stage}.parquet"
    waiting = next(portions, {})
    if waiting:
        for prompt in read_records(path, Prompt):
            response = waiting.pop(prompt.id, None)
            if response is not None:
                yield prompt, response
                waiting = waiting or next(portions, {})
    for portion in portions:
        waiting |= portion
    if waiting:
        for prompt in read_records(path, Prompt):
            if prompt.id in waiting:
                yield prompt, waiting.pop(prompt.id)


def _portions(folder: Path) -> Iterator[dict[str, Response]]:
    """Yield the responses of the finished shards, about a shard at a time, by prompt id.

    Within a shard they are sorted by id, so where the ids begin anew another shard does.

    Raises:
        RunError: a prompt has two responses in a shard.
    """
    portion: dict[str, Response] = {}
    last = ""
    for response in read_responses(folder):
        if response.prompt_id == last:
            raise RunError(f"The prompt {last} has two responses in {folder}. {_REBUILD}")
        if response.prompt_id < last:
            yield portion
            portion = {}
        portion[response.prompt_id] = response
        last = response.prompt_id
    if portion:
        yield portion
