"""What happens beside the training steps: a progress bar, a forecast, validation losses, checkpoints by time."""

import sys
import time
from typing import Any

from accelerate.utils import broadcast_object_list
from tqdm import tqdm
from transformers import TrainerCallback

from distill.training.arguments import evaluation_steps

FORECAST_AFTER = 20
_WARM_STEPS = 2


class Progress(TrainerCallback):
    """One bar of optimiser steps on the error stream, with the last losses; rare lines where that is no terminal."""

    def __init__(self, stage: str, place: int = 0) -> None:
        """Name the stage; ``place`` is the bar's line where several are drawn at once."""
        self._stage, self._place = stage, place
        self._bar: Any = None
        self._shown: dict[str, str] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar where training begins or resumes."""
        if state.is_world_process_zero:
            self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc=f"training {self._stage}",
                             unit="step", file=sys.stderr, position=self._place,
                             mininterval=0.5 if sys.stderr.isatty() else 20)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance by one step."""
        if self._bar is not None:
            self._bar.update(1)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Show the newest losses."""
        for key, name in (("loss", "loss"), ("eval_loss", "validation")):
            if logs and key in logs:
                self._shown[name] = f"{logs[key]:.3f}"
        if self._bar is not None:
            self._bar.set_postfix(self._shown, refresh=False)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


class Evaluations(TrainerCallback):
    """Asks for the validation loss at :func:`evaluation_steps`."""

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


class Forecast(TrainerCallback):
    """After 20 steps (or half of them, where there are fewer), how long the rest will take; said once.

    The first two steps are not counted: they are slower than the others.
    """

    def __init__(self, stage: str) -> None:
        self.seconds: float | None = None
        self._stage, self._begun, self._first = stage, 0.0, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note where this training begins, or goes on."""
        self._first = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure, and say the forecast when it is due."""
        done, left = state.global_step - self._first, state.max_steps - state.global_step
        if done == _WARM_STEPS:
            self._begun = time.monotonic()
        if done != min(FORECAST_AFTER, (state.max_steps - self._first) // 2) or done <= _WARM_STEPS:
            return
        each = (time.monotonic() - self._begun) / (done - _WARM_STEPS)
        self.seconds = round(each * left, 1)
        if state.is_world_process_zero:
            tqdm.write(f"training {self._stage}: {each:.2f} s a step, so about {in_words(self.seconds)} to go "
                       f"({left:,} steps; evaluations and checkpoints come on top)", file=sys.stderr)


class TimedCheckpoints(TrainerCallback):
    """Asks for a checkpoint when the last one is ``minutes`` old; all processes ask at the same step."""

    def __init__(self, minutes: float | None) -> None:
        self._seconds = None if minutes is None else minutes * 60
        self._last = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the clock of the first process."""
        if self._seconds is None:
            return
        due = [time.monotonic() - self._last >= self._seconds]
        if args.world_size > 1:
            broadcast_object_list(due)
        control.should_save = control.should_save or due[0]

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock again."""
        self._last = time.monotonic()


def in_words(seconds: float) -> str:
    """Return a time as one says it: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
