"""The books of one step of the corpus stage: its counts, and the texts it dropped."""

from collections.abc import Callable
from dataclasses import dataclass, field

from distill.run.records import Drop
from distill.run.row_counts import RowCounts

_EXCERPT_CHARS = 200


def printable(text: str, max_chars: int = _EXCERPT_CHARS) -> str:
    """Return the start of a text, with what UTF-8 cannot hold (lone surrogates) replaced by '?'."""
    return text[:max_chars].encode("utf-8", "replace").decode()


@dataclass
class Step:
    """One step's counts (unit: texts). Every input is either passed on or dropped; drops are written out one by one."""

    name: str
    write: Callable[[Drop], None]
    counts: RowCounts = field(init=False)

    def __post_init__(self) -> None:
        self.counts = RowCounts(self.name, "texts")

    def take(self, n: int = 1) -> None:
        """Count texts that came in."""
        self.counts.n_in += n

    def give(self, n: int = 1) -> None:
        """Count texts that go on."""
        self.counts.n_out += n

    def drop(self, record_id: str, reason: str, detail: str = "", excerpt: str = "") -> None:
        """Count and list one text that goes no further. ``detail`` and ``excerpt`` may hold anything."""
        self.counts.dropped[reason] += 1
        self.write(Drop(record_id, self.name, reason, printable(detail, 300), printable(excerpt)))

    def count_unlisted(self, reason: str, n: int = 1) -> None:
        """Count texts that go no further without listing them one by one."""
        if n:
            self.counts.dropped[reason] += n
