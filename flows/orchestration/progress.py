"""How far the teacher is, while it runs: a progress artifact in the Prefect UI, and a log line for each shard."""

import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from distill.generation.manifests import read_markers
from distill.generation.status import RESPONSES, status
from flows.forecast import duration
from flows.orchestration.logs import LOGGER, within
from flows.run import Run

SECONDS = 5.0
log = logging.getLogger(f"{LOGGER}.shards")


@contextlib.contextmanager
def shown(run: Run, stage: str, seconds: float = SECONDS) -> Iterator[None]:
    """While the context lasts, look every ``seconds`` at what a stage's shards say, and show it.

    What is shown is read from the files of the run, so it is right after a restart, too. A server that does not
    answer costs the picture, never the run.
    """
    ended = threading.Event()
    watcher = _Watcher(run, stage)

    def look() -> None:
        with within(run.folder.name, stage):
            pause = seconds
            while not ended.wait(pause):
                begun = time.monotonic()
                watcher.look()
                pause = max(seconds, 20 * (time.monotonic() - begun))  # thousands of shards take a while to read
            watcher.look()

    # In the caller's context: Prefect finds the flow run there that the artifacts belong to.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(look,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=60)


class _Watcher:
    """What has been said of a stage's shards already, and the artifact that shows them."""

    def __init__(self, run: Run, stage: str) -> None:
        self._run, self._stage = run, stage
        self._said = set(read_markers(run.folder / stage / RESPONSES))
        self._begun, self._answered_before = time.monotonic(), 0
        self._artifact: Any = None
        self._shown: tuple[float, str] | None = None
        with contextlib.suppress(OSError, ValueError):
            self._answered_before = _answered(status(run.folder)[stage])

    def look(self) -> None:
        try:
            self._log_shards()
            self._show()
        except Exception as error:  # whatever it is: the run itself goes on, and the next look may succeed
            log.debug("The progress could not be shown (%s: %s).", type(error).__name__, error)

    def _log_shards(self) -> None:
        for name, marker in read_markers(self._run.folder / self._stage / RESPONSES).items():
            if name in self._said:
                continue
            self._said.add(name)
            reasons = "".join(f", {count:,} {reason}" for reason, count in marker.failures.items())
            with within(name):
                log.info("%s of %s prompts answered%s", f"{marker.n_out:,}", f"{marker.n_in:,}", reasons)

    def _show(self) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        share, text = progress_of(status(self._run.folder)[self._stage], self._stage, self._answered_before,
                                  time.monotonic() - self._begun)
        if (share, text) == self._shown:
            return
        if self._artifact is None:
            self._artifact = create_progress_artifact(
                share, key=f"teacher-{self._stage}", description=f"{self._run.folder.name}: {text}")
        else:
            update_progress_artifact(self._artifact, share, description=f"{self._run.folder.name}: {text}")
        self._shown = (share, text)


def progress_of(now: dict[str, Any], stage: str, answered_before: int, seconds: float) -> tuple[float, str]:
    """Return the share of a stage's prompts that are answered, in percent, and a line that says what is left.

    ``now``: of :func:`distill.generation.status.status`. The rate that the time left is reckoned from is that since
    this process began, which took ``seconds``: what was answered before a restart says nothing of it.
    """
    prompts, answered = now["prompts"] or 0, _answered(now)
    rate = (answered - answered_before) / seconds if seconds > 0 else 0.0
    parts = [f"{stage}: {answered:,} of {prompts:,} prompts answered", f"{now['shards']:,} shards finished"]
    if now["failed"]:
        parts.append(f"{now['failed']:,} failed")
    if now["tokens_per_second"]:
        parts.append(f"{now['tokens_per_second']:,.0f} output tokens/s")
    left = max(0, prompts - answered)
    if left and rate > 0:
        parts.append(f"about {duration(left / rate)} left")
    return (round(100 * answered / prompts, 1) if prompts else 0.0), ", ".join(parts)


def _answered(now: dict[str, Any]) -> int:
    return sum(int(now[key]) for key in ("done", "failed", "in_progress"))
