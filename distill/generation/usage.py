"""What the teacher's time has cost so far: a small file for each time that generation ran, kept up while it runs."""

import contextlib
import functools
import logging
import time
import uuid
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from distill.config.schema import Teacher
from distill.errors import InputError
from distill.generation.messages import ShardProgress
from distill.run.storage import read_json, write_json
from distill.runtime import devices

FOLDER = "usage"
_WRITE_SECONDS = 5.0
_STALE_SECONDS = 30.0
_MOST = 1e15
TOKENS = ("n_prompt_tokens", "n_output_tokens", "n_logprob_prompt_tokens", "n_logprob_output_tokens")
"""Of a session, what has a price."""
_COUNTED = (*TOKENS, "n_rows", "n_cached_tokens")

log = logging.getLogger("sentidistill.generation")


@dataclass
class Session:
    """One time that generation ran, from the start of its engines to their end.

    ``seconds`` is wall time, ``ready_seconds`` that since the first engine could answer; ``devices`` GPUs were held
    (where there is none, the machine counts as one). Rows and tokens are those that were answered in this time, also
    those that a crash lost before they were written down; ``n_logprob_…`` what a server read and wrote for
    log-probabilities, in requests beside those for answers. Times of day are seconds since 1970.
    """

    stage: str
    devices: int
    started_at: float = field(default_factory=time.time)
    updated_at: float = 0.0
    seconds: float = 0.0
    ready_seconds: float = 0.0
    n_rows: int = 0
    n_prompt_tokens: int = 0
    n_cached_tokens: int = 0
    n_output_tokens: int = 0
    n_logprob_prompt_tokens: int = 0
    n_logprob_output_tokens: int = 0
    ended: bool = False

    @property
    def gpu_hours(self) -> float:
        """Hours of one GPU (or of the machine, where there is none)."""
        return self.seconds * self.devices / 3600

    @property
    def tokens_read(self) -> int:
        """Tokens of prompts, whatever they were asked for."""
        return self.n_prompt_tokens + self.n_logprob_prompt_tokens

    @property
    def tokens_written(self) -> int:
        """Tokens that were written, whatever for."""
        return self.n_output_tokens + self.n_logprob_output_tokens

    @property
    def is_live(self) -> bool:
        """Whether it still runs, as far as its file tells."""
        return not self.ended and time.time() - self.updated_at < _STALE_SECONDS


class Meter:
    """Keeps a session's file up to date. What a disk has no room for is not written, and harms nothing else."""

    def __init__(self, run: Path, stage: str, devices: int) -> None:
        """Begin a session."""
        self.session = Session(stage, devices)
        self._begun = time.monotonic()
        self._ready: float | None = None
        self._written = 0.0
        begun = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self._path = run / FOLDER / f"{stage}-{begun}-{uuid.uuid4().hex[:6]}.json"

    def ready(self) -> None:
        """Note that an engine can answer now."""
        self._ready = self._ready or time.monotonic()

    def add(self, gain: ShardProgress) -> None:
        """Count answers."""
        for name in _COUNTED:
            setattr(self.session, name, getattr(self.session, name) + getattr(gain, name))

    def update(self, *, ended: bool = False) -> None:
        """Count the time, and write the file where it is old, or at the end."""
        now = time.monotonic()
        self.session.seconds = now - self._begun
        self.session.ready_seconds = now - self._ready if self._ready else 0.0
        self.session.ended = ended
        if ended or now - self._written > _WRITE_SECONDS:
            self.session.updated_at = time.time()
            with contextlib.suppress(OSError):
                write_json(self._path, asdict(self.session))
            self._written = now


def sessions(run: Path) -> list[Session]:
    """Return all sessions of a run whose files can be read, in the order in which they began.

    A warning names those that cannot, once: what they have spent is not counted.
    """
    found = []
    for path in sorted((run / FOLDER).glob("*.json")):
        try:
            found.append(_session(read_json(path)))
        except (InputError, ValueError, TypeError, OSError):
            _say_unread(path)
    return sorted(found, key=lambda item: item.started_at)


def _session(value: Any) -> Session:
    names = {item.name for item in fields(Session)}
    known = {key: item for key, item in value.items() if key in names} if isinstance(value, dict) else value
    session: Session = TypeAdapter(Session).validate_python(known)
    if not all(0 <= item < _MOST for item in asdict(session).values() if isinstance(item, int | float)):
        raise ValueError("a number that can be none of time, rows or tokens")
    return session


@functools.cache
def _say_unread(path: Path) -> None:
    log.warning("%s cannot be read; what was spent in the time that it was of is not counted.", path)


@dataclass(frozen=True)
class Spent:
    """What was spent: GPU hours, and money in the currency of the prices (None without prices)."""

    gpu_hours: float
    cost: float | None


def spent(sessions_: list[Session], teacher: Teacher) -> Spent:
    """Add up what sessions have spent."""
    hours = sum(item.gpu_hours for item in sessions_)
    return Spent(hours, cost_of(teacher, hours, sum(item.tokens_read for item in sessions_),
                                sum(item.tokens_written for item in sessions_)))


def cost_of(teacher: Teacher, gpu_hours: float, prompt_tokens: float, output_tokens: float) -> float | None:
    """Return what GPU hours and tokens cost at the teacher's prices, None where it has none."""
    if not teacher.has_prices:
        return None
    return (gpu_hours * (teacher.price_per_gpu_hour or 0)
            + prompt_tokens / 1e6 * (teacher.price_per_million_prompt_tokens or 0)
            + output_tokens / 1e6 * (teacher.price_per_million_output_tokens or 0))


def devices_of(teacher: Teacher, processes: int) -> int:
    """Return how many devices so many engine processes hold; those behind an endpoint are as the config says."""
    engine = teacher.engine
    if engine.capabilities.remote:
        return engine.n_remote_gpus
    return processes * engine.n_devices if devices.visible() else 1
