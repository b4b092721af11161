"""The row counts: every row that enters a stage leaves it, or is counted under a reason.

Stages state ``n_in``, ``n_out`` and what they dropped; :func:`RowCounts.check` refuses a stage whose
numbers do not add up, which fails the run.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.errors import RunError
from distill.run.markers import MARKER, read_done
from distill.run.storage import write_json


@dataclass
class RowCounts:
    """The account of one stage. ``unit`` names what is counted (texts, prompts, rows, examples)."""

    stage: str
    unit: str
    n_in: int = 0
    n_out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def check(self) -> "RowCounts":
        """Return self if ``n_in = n_out + dropped``.

        Raises:
            RunError: rows were lost or doubled.
        """
        if self.n_in != self.n_out + sum(self.dropped.values()):
            raise RunError(
                f"The counts of stage '{self.stage}' do not add up: {self.n_in} {self.unit} in, {self.n_out} out, "
                f"{sum(self.dropped.values())} dropped {dict(self.dropped)}. This is a defect of sentidistill or a "
                "damaged run folder; nothing after this stage was run.")
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the account as plain JSON values, reasons sorted by name."""
        return {"stage": self.stage, "unit": self.unit, "n_in": self.n_in, "n_out": self.n_out,
                "dropped": dict(sorted(self.dropped.items()))}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "RowCounts":
        """Rebuild an account from :meth:`to_json`.

        Raises:
            RunError: it is none.
        """
        try:
            return cls(value["stage"], value["unit"], value["n_in"], value["n_out"], Counter(value["dropped"]))
        except (KeyError, TypeError) as error:
            raise RunError(f"An account of rows is damaged ({error!r}): something else than sentidistill has changed "
                           "the file that holds it. Delete its stage's folder and run the same command again."
                           ) from error


def write_row_counts(run: Path) -> list[dict[str, Any]]:
    """Collect the accounts in the run folder's stage markers into ``row_counts.json``; check and return them."""
    accounts: list[dict[str, Any]] = []
    for done in sorted((read_done(path.parent) for path in run.rglob(MARKER)), key=lambda done: done["finished_at"]):
        accounts += [RowCounts.from_json(item).check().to_json() for item in done["row_counts"]]
    write_json(run / "row_counts.json", accounts)
    return accounts
