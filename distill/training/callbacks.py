"""What happens beside the training steps: a progress bar, held-out losses at the right steps, time spent in steps."""

import sys
import time
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

from distill.training.arguments import evaluation_steps


class Progress(TrainerCallback):
    """One bar of optimiser steps on the error stream, with the last losses; rare lines where that is no terminal."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._bar: Any = None
        self._shown: dict[str, str] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar where training begins or resumes."""
        if state.is_world_process_zero:
            self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc=f"training {self._stage}",
                             unit="step", file=sys.stderr, mininterval=0.5 if sys.stderr.isatty() else 20)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance by one step."""
        if self._bar is not None:
            self._bar.update(1)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Show the newest losses."""
        for key, name in (("loss", "loss"), ("eval_loss", "held_out")):
            if logs and key in logs:
                self._shown[name] = f"{logs[key]:.3f}"
        if self._bar is not None:
            self._bar.set_postfix(self._shown, refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


class Evaluations(TrainerCallback):
    """Asks for the held-out loss at :func:`evaluation_steps`."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the Trainer's flag where a point of the curve is due."""
        if state.global_step in evaluation_steps(state.max_steps):
            control.should_evaluate = True


class StepClock(TrainerCallback):
    """Seconds spent in optimiser steps, without evaluation and saving."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        self.seconds += time.monotonic() - self._started
