"""The books of one step of the corpus stage: its ledger, and the texts it dropped."""

from dataclasses import dataclass, field

from distill.ledger import Ledger
from distill.records import Drop

_EXCERPT_CHARS = 200


def printable(text: str, max_chars: int = _EXCERPT_CHARS) -> str:
    """Return the start of a text, with what UTF-8 cannot hold (lone surrogates) replaced by '?'."""
    return text[:max_chars].encode("utf-8", "replace").decode()


@dataclass
class Step:
    """One step's ledger (unit: texts) and its drops. Every input is either passed on or dropped."""

    name: str
    drops: list[Drop] = field(default_factory=list)
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.name, "texts")

    def take(self) -> None:
        """Count one text that came in."""
        self.ledger.n_in += 1

    def give(self) -> None:
        """Count one text that goes on."""
        self.ledger.n_out += 1

    def drop(self, record_id: str, reason: str, detail: str = "", excerpt: str = "") -> None:
        """Count and list one text that goes no further. ``detail`` and ``excerpt`` may hold anything."""
        self.ledger.dropped[reason] += 1
        self.drops.append(Drop(record_id, self.name, reason, printable(detail, 300), printable(excerpt)))

    def count_unlisted(self, reason: str, n: int = 1) -> None:
        """Count texts that go no further without listing them one by one."""
        if n:
            self.ledger.dropped[reason] += n
