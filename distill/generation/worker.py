"""The process that holds the teacher: opens the engine once and works through the pending shards."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from tqdm import tqdm

from distill import engines
from distill.config.schema import EngineConfig
from distill.engines.base import Engine, Output, Request, Sampling
from distill.errors import RunError
from distill.generation.journal import Journal
from distill.generation.markers import commit
from distill.generation.shards import PromptSet, Shard
from distill.hashing import fingerprint
from distill.records import Prompt, Response

SLICE = 256


def shard_inputs(shard: Shard, settings: dict[str, Any]) -> dict[str, Any]:
    """Return everything that determines a shard's responses, as its marker keeps it."""
    return {"prompts": shard.digest, **settings}


def run_shards(spec: dict[str, Any]) -> dict[str, Any]:
    """Generate the shards named in ``spec`` and return how many were made.

    ``spec``: ``folder`` (of the responses), ``prompts`` (Parquet file), ``model`` (folder), ``engine``,
    ``settings`` (what determines the responses, see :func:`distill.generation.run.settings_of`), ``shards``
    (names), ``slice_size`` (requests the engine gets at once; after each the journal is on disk).

    Raises:
        InputError: the engine cannot be opened with these settings.
        RunError: the engine failed as a whole, or lost or doubled a request.
    """
    folder, settings = Path(spec["folder"]), spec["settings"]
    prompts = PromptSet(Path(spec["prompts"]), settings["shard_size"])
    wanted = set(spec["shards"])
    shards = [shard for shard in prompts.shards if shard.name in wanted]
    config = TypeAdapter(EngineConfig).validate_python(spec["engine"])
    n_prompts = sum(len(shard.rows) for shard in shards)
    with (engines.open_engine(config, Path(spec["model"])) as engine,
          tqdm(total=n_prompts, unit="prompt", desc=folder.parent.name, disable=None, smoothing=0.05) as bar):
        for shard in shards:
            _run_shard(engine, folder, shard, prompts.load(shard), settings, spec["slice_size"], bar)
    return {"shards": len(shards)}


def _run_shard(engine: Engine, folder: Path, shard: Shard, prompts: Sequence[Prompt], settings: dict[str, Any],
               slice_size: int, bar: Any) -> None:
    inputs = shard_inputs(shard, settings)
    journal = Journal(folder, shard.name, fingerprint(inputs))
    try:
        begun = bar.n
        _advance_to(bar, begun + len(journal.responses))
        for first in range(len(journal.responses), len(prompts), slice_size):
            requests = [_request(item, settings) for item in prompts[first:first + slice_size]]
            started = time.monotonic()
            outputs = engine.generate(requests, lambda outputs: bar.update(len(outputs)))
            journal.add(_responses(requests, outputs), time.monotonic() - started)
            _advance_to(bar, begun + len(journal.responses))
            tokens = sum(item.n_output_tokens for item in journal.responses)
            bar.set_postfix_str(f"{tokens / max(journal.seconds, 1e-9):.0f} tokens/s", refresh=True)
        commit(folder, shard.name, shard.prefix, inputs, journal.responses, journal.seconds)
        journal.delete()
    finally:
        journal.close()


def _advance_to(bar: Any, count: int) -> None:
    bar.update(count - bar.n)


def _request(prompt: Prompt, settings: dict[str, Any]) -> Request:
    sampling = settings["sampling"].get(prompt.family)
    if sampling is None:
        raise RunError(f"The prompt {prompt.id} is of the family '{prompt.family}', which does not belong to this "
                       f"stage ({', '.join(settings['sampling'])}). Run the prompts stage again.")
    chat = settings["chat_template"][prompt.family]
    decoding = Sampling(**{**sampling, "stop": tuple(sampling["stop"])})
    return Request(prompt.id, prompt.prompt, decoding, chat=chat, seed=prompt.seed)


def _responses(requests: Sequence[Request], outputs: Sequence[Output]) -> list[Response]:
    if [item.id for item in requests] != [item.id for item in outputs]:
        raise RunError(f"The engine was given {len(requests)} requests and returned {len(outputs)} answers that are "
                       "not theirs one by one. Finished shards are kept; this is a defect of the engine.")
    return [_response(item) for item in outputs]


def _response(output: Output) -> Response:
    failure = (output.error or "error") if output.finish_reason == "error" else _unwritable(output.text)
    return Response(output.id, "" if failure else output.text, output.finish_reason, output.n_prompt_tokens,
                    output.n_output_tokens, failure)


def _unwritable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates, which Parquet cannot hold
        return "invalid_unicode"
    return ""
