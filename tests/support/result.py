"""Result files of SentiBench as an evaluation writes them, with answers of our choice."""

from pathlib import Path
from typing import Any

import numpy as np

from distill.run.storage import write_json
from sentibench.metrics import macro_f1

LABELS = ("negative", "positive")
GOLD = [LABELS[n % 2] for n in range(60)]


def answers(share_right: float, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [gold if generator.random() < share_right else LABELS[1 - LABELS.index(gold)] for gold in GOLD]


def write(folder: Path, task: str, predicted: list[str], seed: int = 42, **more: Any) -> None:
    scored = macro_f1(GOLD, predicted, LABELS)
    write_json(folder / f"{task}.seed{seed}.json", {
        "task": task, "title": task, "category": "BSA", "seen": True, "metric": "macro_f1", "value": scored.score,
        "n": len(GOLD), "n_invalid": 0, "protocol": "released", "seed": seed, "prompts_sha256": "same",
        "model": {"name": folder.name, "fingerprint": folder.name}, "statistics": scored.statistics.tolist(),
        **more})


def first_right(count: int) -> list[str]:
    """Answers of which the first ``count`` are right and the others wrong."""
    return [gold if place < count else LABELS[1 - LABELS.index(gold)] for place, gold in enumerate(GOLD)]
