"""What runs in the process that holds the teacher: put the prompts to it, and keep each answer as it comes."""

import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from tqdm import tqdm

from distill.config.schema import TeacherEngine
from distill.engines import computed, open_engine, settled
from distill.engines.base import Engine, LabelScores, Output, Request, Sampling
from distill.engines.encoding import NOT_A_NUMBER
from distill.errors import ProcessDiedError
from distill.parsing import reasoning
from distill.parsing.labels import UNREADABLE, parse_answer
from distill.run.response_cache import ResponseCache
from distill.run.storage import json_text, lock, write_text

_FINAL = {"prompt_too_long", "content_filter", "refused", "not_encodable", "empty_prompt", NOT_A_NUMBER}
"""What would be said of a text again. Whatever else goes wrong may pass: those texts are asked once more."""
_AT_ONCE = 1024


def ask(spec: dict[str, Any]) -> dict[str, Any]:
    """Write the answer to each prompt to ``out``: ``{"probabilities"}`` of the words, or ``{"error"}``.

    ``spec``: ``folder`` of the model (None behind an endpoint), ``engine``, ``chat``, ``prompts`` (a file of JSON),
    ``words``, ``soft``, ``max_tokens`` (of a written one), ``kept`` (the file of answers), ``decides`` (what they
    depend on), ``out``.

    Raises:
        InputError, RunError: as :func:`distill.engines.open_engine`.
        ProcessDiedError: some texts were not answered for a reason that may pass. The other answers are kept.
    """
    prompts: list[str] = json.loads(Path(spec["prompts"]).read_text(encoding="utf-8"))
    kept, words = Path(spec["kept"]), list(spec["words"])
    engine = settled(TypeAdapter(TeacherEngine).validate_python(spec["engine"]))
    with lock(kept), ResponseCache(kept, **spec["decides"], dtype=computed(engine).get("dtype")) as answers:
        keys = [answers.key(prompt) for prompt in prompts]
        asked = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if answers.get(key) is None}
        errors: dict[str, dict[str, Any]] = {}
        if asked:
            _ask_all(spec, engine, asked, words, answers, errors)
        if passing := Counter(one["error"] for one in errors.values() if one["error"] not in _FINAL):
            raise ProcessDiedError(
                f"The teacher did not label {passing.total():,} of {len(asked):,} texts, for reasons that may pass "
                f"({', '.join(f'{count:,} {reason}' for reason, count in passing.most_common())}). The other labels "
                "are kept; the same command asks only for these.")
        found = [answers.get(key) or errors[key] for key in keys]
    write_text(Path(spec["out"]), json_text([_read(one, words) for one in found], "The labels"))
    return {"asked": len(asked)}


def _ask_all(spec: dict[str, Any], engine_config: Any, asked: dict[str, str], words: Sequence[str],
             answers: ResponseCache, errors: dict[str, dict[str, Any]]) -> None:
    folder = Path(spec["folder"]) if spec["folder"] else None
    scores = spec["soft"] and engine_config.capabilities.label_scores
    with open_engine(engine_config, folder) as engine, tqdm(
            total=len(asked), desc="the teacher labels", unit="text", file=sys.stderr,
            mininterval=0.5 if sys.stderr.isatty() else 20) as bar:
        items = list(asked.items())

        def keep(results: Sequence[LabelScores | Output]) -> None:
            for result in results:
                if result.error:  # nothing was asked, and elsewhere it may be possible
                    errors[result.id] = {"error": result.error}
                else:
                    answers.add(result.id, {"scores": list(result.scores)} if isinstance(result, LabelScores)
                                else {"raw": result.text})
            bar.update(len(results))

        for start in range(0, len(items), _AT_ONCE):
            _put(engine, items[start:start + _AT_ONCE], words, spec, scores, keep)


def _put(engine: Engine, items: Sequence[tuple[str, str]], words: Sequence[str], spec: dict[str, Any],
         scores: bool, keep: Any) -> None:
    chat = spec["chat"]
    sampling = Sampling(max_tokens=spec["max_tokens"], first_line=True)
    requests = [Request(key, prompt, sampling, chat) for key, prompt in items]
    if scores:
        continuations = [word if chat else f" {word}" for word in words]
        engine.score_labels(requests, [continuations] * len(requests), keep)
    else:
        engine.generate(requests, keep)


def _read(answer: dict[str, Any], words: Sequence[str]) -> dict[str, Any]:
    if "error" in answer:
        return answer
    if "scores" in answer:
        if not all(map(math.isfinite, answer["scores"])):
            return {"error": NOT_A_NUMBER}
        return {"probabilities": torch.softmax(torch.tensor(answer["scores"], dtype=torch.float64), 0).tolist()}
    label = parse_answer(answer["raw"], list(words), False)
    why = reasoning.TRUNCATED if reasoning.split(answer["raw"]).cut_off else UNREADABLE
    return {"error": why, "raw": answer["raw"]} if label is None else {
        "probabilities": [float(word == label) for word in words]}
