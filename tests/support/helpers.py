"""Training rows for tests, and what tests have done in processes of their own."""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill.config.schema import Train
from distill.dataset.split import split_rows, unsplit_file
from distill.dataset.tokens import RowEncoder
from distill.errors import InputError
from distill.run.records import LabelRow, TokenizedRow, TopRow, TrainingRow, write_records
from distill.run.storage import write_text


def make_rows(count: int = 24) -> list[TrainingRow]:
    """Return rows of different lengths with two possible answers."""
    words = [("good", "positive"), ("bad", "negative")]
    return [TrainingRow(f"row{i:03d}", "icldist", "sentiment/lw", f"Text: {'very ' * (i % 9)}{word}\nLabel:", answer)
            for i, (word, answer) in ((i, words[i % 2]) for i in range(count))]


def write_dataset(folder: Path, rows: Mapping[str, Sequence[TrainingRow]], student: Path, train: Train,
                  seed: int = 42, logprobs: Callable[[TokenizedRow], Sequence[float]] | None = None,
                  top: Callable[[TokenizedRow], TopRow] | None = None) -> list[Path]:
    """Write rows by source as the dataset stage does, with token ids and split; return their files.

    ``logprobs``: the teacher's distribution over the labels of a row; ``top``: a row with its likeliest tokens.
    """
    encoder, kind = RowEncoder(student, train, seed), LabelRow if logprobs else TopRow if top else TokenizedRow
    for source, some in rows.items():
        found = [row for row in encoder.encode(some) if isinstance(row, TokenizedRow)]
        if logprobs:
            found = [LabelRow(**asdict(row), label_ids=encoder.encode_labels(row), label_logprobs=list(logprobs(row)))
                     for row in found]
        found = [top(row) for row in found] if top else found
        write_records(unsplit_file(folder, source), kind, found)
    split_rows(folder, dict.fromkeys(rows, kind), train, seed)
    return [folder / f"{source}.parquet" for source in rows]


def echo(spec: dict[str, Any]) -> dict[str, Any]:
    return spec


def raise_input_error(spec: dict[str, Any]) -> None:
    raise InputError(spec["message"])


def divide_by_zero(spec: dict[str, Any]) -> float:
    return 1 / 0


def kill_itself(spec: dict[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_pid_and_wait(spec: dict[str, Any]) -> None:
    write_text(Path(spec["path"]), str(os.getpid()))
    signal.pause()


def leave_shared_memory(spec: dict[str, Any]) -> str:
    """End without giving a piece of shared memory back, as an engine that is still closing does."""
    from multiprocessing import shared_memory

    piece = shared_memory.SharedMemory(create=True, size=1 << 12)
    kept.append(piece)
    return piece.name


kept: list[Any] = []


def leave_a_process(spec: dict[str, Any]) -> None:
    """Leave a process that wants to be asked to end, and says that it was."""
    import subprocess

    script = f"trap 'echo asked > {spec['path']}; exit' TERM; touch {spec['path']}.ready; while :; do sleep 0.05; done"
    subprocess.Popen(["sh", "-c", script])
    while not Path(f"{spec['path']}.ready").exists():
        pass


def answer_on_channel(spec: dict[str, Any], channel: Any) -> None:
    """Send back what comes."""
    while True:
        channel.send(channel.recv())


def server_and_offline(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the process that forked this one, and whether its libraries were imported to be offline."""
    from huggingface_hub import constants

    return {"server": os.getppid(), "offline": constants.HF_HUB_OFFLINE}


def go_offline_late(spec: dict[str, Any]) -> list[bool]:
    """Return whether the Hub is asked before and after this process is told to stay off the network."""
    from huggingface_hub import constants, is_offline_mode

    from distill.runtime.offline import go_offline

    before = is_offline_mode()
    go_offline()
    return [before, is_offline_mode(), constants.HF_HUB_OFFLINE]
