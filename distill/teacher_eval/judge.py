"""The teacher's analyses before a judge: five dimensions, each marked from 0 to 5 (Appendix D.1, Table 22)."""

import heapq
import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.config.prompt_schema import KnowDistPrompts
from distill.engines.base import Output
from distill.generation.manifests import read_responses
from distill.intervals import draws, percentile_interval
from distill.parsing import reasoning
from distill.run.hashing import content_rank
from distill.run.records import Prompt, read_records
from distill.teacher_eval.records import Analysis, Verdict
from distill.teacher_eval.rubric import OUT_OF_RANGE, UNREADABLE, read_verdict, rubric

_METHOD = "analyze"


def judged_perspectives(prompts: KnowDistPrompts) -> dict[str, str]:
    """Return the perspectives whose analyses are marked, in the order of the prompt files, and what the judge is told.

    That is the order of Table 22, after which come those of a user's own file.
    """
    return {name: one.rubric for name, one in prompts.perspectives.items() if one.judged and one.analyze}


def choose_analyses(prompts: Path, responses: Path, perspectives: Collection[str], per_perspective: int, seed: int
                    ) -> list[Analysis]:
    """Return up to ``per_perspective`` of the teacher's analyses from each of ``perspectives``, chosen by hash.

    All answers of finished shards can be chosen, those that the quality filters drop, too: what is measured is the
    teacher. What it thought before it answered is no part of them. Rewritings are not marked. Memory holds the ids of
    failures, and what is chosen.

    Raises:
        RunError: the prompts or a shard are missing or damaged.
    """
    failed = {response.prompt_id for response in read_responses(responses)
              if response.failure or reasoning.split(response.output).cut_off}
    # The heap's first is the one to go: ranks are kept as negative numbers.
    chosen: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
    for prompt in read_records(prompts, Prompt):
        method, _, perspective = prompt.kind.partition("/")
        if method == _METHOD and perspective in perspectives and prompt.id not in failed:
            heap = chosen[perspective]
            heapq.heappush(heap, (-content_rank(seed, prompt.id, "judge"), prompt.id, prompt.prompt))
            if len(heap) > per_perspective:
                heapq.heappop(heap)
    wanted = {key for heap in chosen.values() for _, key, _ in heap}
    answers = {item.prompt_id: reasoning.split(item.output).answer.strip() for item in read_responses(responses)
               if item.prompt_id in wanted}
    return [Analysis(key, perspective, task, answers[key]) for perspective in perspectives
            for _, key, task in sorted(chosen[perspective], reverse=True) if key in answers]


def read_verdicts(analyses: Sequence[Analysis], outputs: Sequence[Output]) -> list[Verdict]:
    """Return the marks in each of the judge's verdicts, or why there are none."""
    verdicts = []
    for analysis, output in zip(analyses, outputs, strict=True):
        marks, problem = ((), output.error) if output.error else read_verdict(output.text)
        verdicts.append(Verdict(analysis.prompt_id, analysis.perspective, analysis.task, analysis.answer, output.text,
                                json.dumps(marks) if marks else "", problem))
    return verdicts


def score_verdicts(verdicts: Sequence[Verdict], perspectives: Collection[str], seed: int) -> list[dict[str, Any]]:
    """Return, for each of ``perspectives`` in their order, the mean mark of every dimension with its 95% interval.

    ``asked`` = ``n`` + ``unreadable`` + ``out_of_range`` + ``failed``; means are over the ``n`` verdicts with marks
    (None where there are none). Intervals: percentile bootstrap over analyses; of equal marks they have no width.
    """
    rows: list[dict[str, Any]] = []
    for perspective in perspectives:
        of_this = [verdict for verdict in verdicts if verdict.perspective == perspective]
        if not of_this:
            continue
        marks = [json.loads(verdict.marks) for verdict in of_this if not verdict.problem]
        problems = [verdict.problem for verdict in of_this if verdict.problem]
        unreadable, out_of_range = problems.count(UNREADABLE), problems.count(OUT_OF_RANGE)
        rows.append({
            "perspective": perspective, "asked": len(of_this), "n": len(marks), "unreadable": unreadable,
            "out_of_range": out_of_range, "failed": len(problems) - unreadable - out_of_range,
            "dimensions": _means(marks, seed, perspective)})
    return rows


def _means(marks: Sequence[Sequence[float]], seed: int, perspective: str) -> dict[str, dict[str, Any]]:
    names = rubric().dimensions
    if not marks:
        return {name: {"mean": None, "interval_95": None} for name in names}
    values = np.array(marks)
    resampled = draws(len(values), seed, f"judge {perspective}") @ values / len(values)
    return {name: {"mean": float(values[:, place].mean()), "interval_95": percentile_interval(resampled[:, place])}
            for place, name in enumerate(names)}
