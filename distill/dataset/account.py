"""What became of the prompts of a stage on their way to rows, and when too little did to go on."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.run.row_counts import RowCounts


@dataclass
class Account:
    """What became of one stage's prompts."""

    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_by_kind: dict[str, Counter[str]] = field(default_factory=dict)
    completion_tokens: int = 0
    reasoned: int = 0
    rows_with_reasoning: int = 0

    def drop(self, kind: str, reason: str) -> None:
        """Count a prompt that makes no row."""
        self.dropped[reason] += 1
        self.dropped_by_kind.setdefault(kind, Counter())[reason] += 1

    def row_counts(self, stage: str) -> RowCounts:
        """Return the account of a stage as one of the run's."""
        n_out = self.kept.total()
        return RowCounts(f"dataset/{stage}", "prompts", n_in=n_out + self.dropped.total(), n_out=n_out,
                         dropped=self.dropped)


def refuse_nothing_left(dropped_file: Path, stage: str, account: Account) -> None:
    """Raise InputError where prompts of a stage were asked and no answer is left; ``dropped_file`` lists them."""
    if account.kept or not account.dropped:
        return
    reasons = ", ".join(f"{reason}: {count}" for reason, count in account.dropped.most_common())
    raise InputError(
        f"None of the teacher's {account.dropped.total()} answers of stage {stage} is left to train on ({reasons}). "
        f"They are listed in {dropped_file}; 'distill show RUN --rejected' shows some. Use a more capable teacher, "
        "raise its max_tokens (truncated, truncated_reasoning) or train.max_length (too_long_student), or switch "
        "single filters off under 'filters'.")


def refuse_no_reasoning(dropped_file: Path, accounts: Iterable[Account]) -> None:
    """Raise InputError where reasoning is to be kept and no row has any."""
    listed = list(accounts)
    if any(account.rows_with_reasoning for account in listed):
        return
    dropped = sum((account.dropped for account in listed), Counter[str]())
    raise InputError(
        f"train.keep_reasoning is on, but no row that would be trained on holds any: {sum(a.reasoned for a in listed)} "
        "of the teacher's answers came with reasoning (with an empty one, too), and dropped was "
        f"{dict(dropped) or 'none'} (listed in {dropped_file}). Switch the teacher's reasoning on "
        "(chat_template_kwargs of its engine), raise its max_tokens and train.max_length, or set train.keep_reasoning "
        "to false.")


def details_of(accounts: Mapping[str, Account]) -> dict[str, Any]:
    """Return what the details of the stage tell of its accounts."""
    return {
        "reasoning_taken_off": {stage: account.reasoned for stage, account in accounts.items()},
        "rows_with_reasoning": {stage: account.rows_with_reasoning for stage, account in accounts.items()},
        "kept_by_kind": {stage: dict(sorted(account.kept.items())) for stage, account in accounts.items()},
        "dropped_by_kind": {stage: {kind: dict(sorted(reasons.items()))
                                    for kind, reasons in sorted(account.dropped_by_kind.items())}
                            for stage, account in accounts.items()},
        "mean_completion_tokens": {
            stage: round(account.completion_tokens / account.kept.total(), 1) if account.kept else 0.0
            for stage, account in accounts.items()},
    }
