"""How far the teacher is, how fast, and what it has cost: from the files of a run, which may be under way."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from distill.config.schema import Teacher
from distill.generation.journal import journalled
from distill.generation.label_cost import label_cost
from distill.generation.label_logprobs import LABELS
from distill.generation.manifests import Marker, read_markers
from distill.generation.sidecar import Sidecar
from distill.generation.top_logprobs import SIDECARS, TOP, USUAL_K, bytes_a_token
from distill.generation.usage import Session, cost_of, sessions, spent
from distill.run.markers import MARKER

Stage = Literal["knowdist", "icldist"]
NodeCounter = Callable[[tuple[str, ...]], int]
STAGES: dict[str, tuple[str, ...]] = {"knowdist": ("knowdist",), "icldist": ("icldist", "general")}
RESPONSES = "responses"


def status(run: Path, teacher: Teacher | None = None, nodes: NodeCounter | None = None) -> dict[str, dict[str, Any]]:
    """Return how far the teacher is, by stage. ``nodes`` counts those of labels, where a tokenizer is at hand.

    ``prompts`` is the number to ask (None before the prompts are made), ``done`` and ``failed`` those in finished
    shards, ``in_progress`` those answered in shards still running, ``left`` the rest. ``tokens_per_second`` counts
    output tokens: of the session that runs now, else over all of them; ``seconds_left`` is reckoned from the rows an
    hour of the same (None where nothing tells). ``gpu_hours`` and, where ``teacher`` has prices, ``cost`` are what was
    spent so far; ``running`` says whether generation runs now. Of ``n_estimated`` answers a server did not tell the
    tokens. ``label_logprobs``, ``top_logprobs``: how many distributions over labels, and how many answers with
    log-probabilities of their tokens, are kept beside finished shards; ``label_logprobs_untold``,
    ``top_logprobs_untold``: of how many the engine could not tell them; ``logprob_bytes``: what both take on disk.
    ``top_left``: what the log-probabilities of the other answers' tokens would take (:func:`top_left`).
    ``labels_left``: what the distributions over labels would take that are not there (:func:`labels_left`).
    ``n_logprob_prompt_tokens``, ``n_logprob_output_tokens``: what a server has read and written for both, beside the
    tokens of answers.
    """
    all_sessions = sessions(run)
    found: dict[str, dict[str, Any]] = {}
    for stage in STAGES:
        responses = run / stage / RESPONSES
        total = add_up(read_markers(responses).values())
        n_prompts = _n_rows(run / "prompts" / f"{stage}.parquet")
        in_progress = journalled(responses)
        left = None if n_prompts is None else max(0, n_prompts - total["n_in"] - in_progress)
        own = [item for item in all_sessions if item.stage == stage]
        live = [item for item in own if item.is_live]
        gone = spent(own, teacher) if teacher else None
        found[stage] = {
            "prompts": n_prompts, "done": total["n_out"], "failed": total["n_failed"], "in_progress": in_progress,
            "left": left, "failures": dict(total["failures"]), "shards": total["shards"],
            "n_prompt_tokens": total["n_prompt_tokens"], "n_cached_tokens": total["n_cached_tokens"],
            "n_output_tokens": total["n_output_tokens"], "n_estimated": total["n_estimated"],
            **{name: count for sidecar in SIDECARS for name, count in _kept(sidecar, responses).items()},
            "logprob_bytes": sum(sidecar.n_bytes(responses) for sidecar in SIDECARS),
            "top_left": top_left(responses, teacher, _rate(live or own, "n_rows")),
            "labels_left": labels_left(
                run, teacher, _rate(live or own, "n_rows"), nodes) if stage == "icldist" else None,
            "n_logprob_prompt_tokens": sum(item.n_logprob_prompt_tokens for item in own),
            "n_logprob_output_tokens": sum(item.n_logprob_output_tokens for item in own),
            "seconds": total["seconds"],
            "tokens_per_second": _rate(live or own, "n_output_tokens"),
            "seconds_left": _seconds_left(left, _rate(live or own, "n_rows")),
            "running": bool(live), "sessions": len(own),
            "gpu_hours": sum(item.gpu_hours for item in own), "cost": gone.cost if gone else None,
            "finished": (run / stage / MARKER).exists(),
        }
    return found


def _kept(sidecar: Sidecar[Any], responses: Path) -> dict[str, int]:
    markers = sidecar.captured(responses).values()
    kept = sum(marker.n_out for marker in markers)
    return {sidecar.name: kept, f"{sidecar.name}_untold": sum(marker.n_in for marker in markers) - kept}


def top_left(responses: Path, teacher: Teacher | None, rows_per_second: float = 0.0) -> dict[str, Any] | None:
    """Return what the log-probabilities of finished answers' tokens would take that have none; None where all have.

    As :func:`labels_left`: ``prompts``, ``bytes`` before compression and ``seconds`` at the pace of the answers, all at
    most: answers by one label have none, and answers that are there are only read. A server reads prompt and answer.
    """
    kept, k = TOP.captured(responses), (teacher and teacher.logprobs.top_k) or USUAL_K
    left = [marker for name, marker in read_markers(responses).items() if name not in kept]
    prompts = sum(marker.n_out for marker in left)
    if not prompts:
        return None
    n_output_tokens = sum(marker.n_output_tokens for marker in left)
    return {"prompts": prompts, "bytes": n_output_tokens * bytes_a_token(k),
            "seconds": math.ceil(prompts / rows_per_second) if rows_per_second else None,
            "at_least": False,
            **_asked(teacher, sum(marker.n_prompt_tokens for marker in left) + n_output_tokens, prompts)}


def labels_left(run: Path, teacher: Teacher | None = None, rows_per_second: float = 0.0,
                nodes: NodeCounter | None = None) -> dict[str, Any] | None:
    """Return what distributions over labels would take that are not kept yet; None where there are none to come.

    ``prompts``, ``bytes`` on disk, and ``seconds`` at so many rows a second (None where nothing tells), all rather too
    many: some prompts have none in the end. ``prompt_tokens``, ``output_tokens`` and ``cost``: of a server, which is
    asked for each prompt once and for each node of its labels again. Where nothing counts these (``nodes``), it is
    ``at_least`` what one token a label takes.
    """
    prompts, responses = run / "prompts" / "icldist.parquet", run / "icldist" / RESPONSES
    n_rows, markers, kept = _n_rows(prompts), read_markers(responses), LABELS.captured(responses)
    if not n_rows or (len(kept) == len(markers) and sum(marker.n_in for marker in markers.values()) == n_rows):
        return None
    cost = label_cost(prompts, max(1, len(markers)), nodes)
    left = cost.n_prompts - sum(marker.n_in for marker in kept.values())
    if left <= 0:
        return None
    n_requests = round(left * (1 + cost.n_nodes / cost.n_prompts))
    total = add_up(markers.values())
    return {"prompts": left, "bytes": round(cost.n_bytes * left / cost.n_prompts),
            "seconds": math.ceil(left / rows_per_second) if rows_per_second else None,
            "at_least": nodes is None,
            **_asked(teacher, round(n_requests * total["n_prompt_tokens"] / max(1, total["n_in"])), n_requests)}


def _asked(teacher: Teacher | None, prompt_tokens: int, output_tokens: int) -> dict[str, Any]:
    """Return what a server would be asked; nothing where the teacher is behind none."""
    if teacher is None or not teacher.engine.capabilities.remote:
        return {"prompt_tokens": 0, "output_tokens": 0, "cost": None}
    return {"prompt_tokens": prompt_tokens, "output_tokens": output_tokens,
            "cost": cost_of(teacher, 0.0, prompt_tokens, output_tokens)}


def add_up(markers: Iterable[Marker]) -> dict[str, Any]:
    """Return the sums of shards' markers: prompts, failures by reason, tokens, the engine's seconds."""
    listed = list(markers)
    failures: Counter[str] = Counter()
    unusable: Counter[str] = Counter()
    for marker in listed:
        failures.update(marker.failures)
        unusable.update(marker.unusable)
    numbers = ("n_in", "n_out", "n_failed", "n_prompt_tokens", "n_cached_tokens", "n_output_tokens", "n_estimated")
    total: dict[str, Any] = {key: sum(getattr(marker, key) for marker in listed) for key in numbers}
    seconds = round(sum(marker.seconds for marker in listed), 3)
    speed = round(total["n_output_tokens"] / seconds, 1) if seconds else 0.0
    return total | {"shards": len(listed), "failures": failures, "unusable": unusable, "seconds": seconds,
                    "tokens_per_second": speed}


def _rate(sessions_: list[Session], what: str) -> float:
    seconds = sum(item.ready_seconds for item in sessions_)
    return round(sum(getattr(item, what) for item in sessions_) / seconds, 3) if seconds else 0.0


def _seconds_left(left: int | None, rows_per_second: float) -> float | None:
    if left is None or not rows_per_second:
        return None
    return math.ceil(left / rows_per_second)


def _n_rows(path: Path) -> int | None:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return None
