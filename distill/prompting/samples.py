"""A few prompts of a run to look at: of every family, as different as can be, the same ones every time."""

from collections import Counter
from pathlib import Path

from distill.errors import RunError
from distill.prompting.files import FOLDER, STAGE_OF, read_prompts
from distill.run.markers import is_finished, require_whole
from distill.run.records import Prompt

Kind = tuple[str, str]


def sample_prompts(run: Path, n: int) -> list[Prompt]:
    """Return ``n`` prompts of a run, or all it has if they are fewer: of each family in turn, of its kinds in turn.

    The files are in the order of a hash, so the first prompts of a kind are a random sample of it.

    Raises:
        RunError: the prompts are not built, or a file of them is damaged.
        InputError: files of them are missing, or their marker is damaged.
    """
    if not is_finished(run / FOLDER):
        raise RunError(f"{run} has no finished prompts. Run 'distill prompts' with its config first.")
    details = require_whole(run / FOLDER, "distill prompts")["details"]
    order = _chosen({family: dict(details[family]["kinds"]) for family in STAGE_OF if family in details}, n)
    found: dict[Kind, list[Prompt]] = {kind: [] for kind in order}
    for stage in sorted({STAGE_OF[family] for family, _ in order}):
        left = Counter({kind: count for kind, count in Counter(order).items() if STAGE_OF[kind[0]] == stage})
        for prompt in read_prompts(run, stage):
            kind = prompt.family, prompt.kind
            if left[kind]:
                found[kind].append(prompt)
                left[kind] -= 1
                if not left.total():
                    break
    return [found[kind].pop(0) for kind in order if found[kind]]


def _chosen(kinds: dict[str, dict[str, int]], n: int) -> list[Kind]:
    """Return the (family, kind) of ``n`` prompts; ``kinds`` says how many there are of each."""
    chosen: list[Kind] = []
    while len(chosen) < n and any(kinds.values()):
        for family, counts in kinds.items():
            if counts and len(chosen) < n:
                kind = _least_like([kind for other, kind in chosen if other == family], sorted(counts))
                chosen.append((family, kind))
                counts[kind] -= 1
                if not counts[kind]:
                    del counts[kind]
    return sorted(chosen, key=lambda item: list(kinds).index(item[0]))


def _least_like(shown: list[str], kinds: list[str]) -> str:
    """Return the kind that was shown least, and of these the one whose method and perspective were."""
    parts = Counter(part for kind in shown for part in kind.split("/"))
    return min(kinds, key=lambda kind: (shown.count(kind), sum(parts[part] for part in kind.split("/"))))
