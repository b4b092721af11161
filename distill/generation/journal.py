"""What a running shard has so far: on disk as its answers end."""

import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.generation.journal_entries import JournalEntry, encoded, line_of, lines, portion_of
from distill.generation.manifests import marker_path
from distill.run.hashing import fingerprint
from distill.run.records import LabelLogprobs, Response
from distill.run.storage import atomic_path, sync_folder
from distill.run.top_logprobs import TopLogprobs

JOURNAL = ".journal.jsonl"
_SYNC_SECONDS = 1.0
"""How often the journal is forced to disk: a machine that loses power loses no more than this; a process that is
killed loses nothing that was written."""

log = logging.getLogger("sentidistill.generation")


class Journal:
    """Answers of a shard that is still running, so that a crash loses at most the requests in flight.

    A JSON line each: first what determines the shard's responses, with its fingerprint, then the answers in portions
    as they ended. A last line torn by a crash is cut off. What else is no answer to a prompt of this shard (a damaged
    line, counts that can be none, an unknown prompt) is left out with a warning, and the rest stays. A journal of
    another fingerprint is thrown away (:func:`journal_inputs` tells before whether it is one).

    ``responses`` holds the answers by prompt id, ``seconds`` the engine's time on them, ``n_cached_tokens`` the tokens
    of their prompts that the engine did not have to compute, ``label_logprobs`` how likely the labels of prompts are,
    ``top_logprobs`` what might have stood at each token of the answers.
    """

    def __init__(self, folder: Path, name: str, inputs: Mapping[str, Any],
                 prompts: Collection[str] | None = None) -> None:
        """Open the journal of shard ``name``, with what an earlier process left in it.

        ``prompts``: the ids of the shard's prompts; None takes whatever is there for one.
        """
        self._header = encoded({"fingerprint": fingerprint(inputs), "inputs": dict(inputs)})
        self.path = folder / f"{name}{JOURNAL}"
        self.responses: dict[str, Response] = {}
        self.label_logprobs: dict[str, LabelLogprobs] = {}
        self.top_logprobs: dict[str, TopLogprobs] = {}
        self.seconds, self.n_cached_tokens = 0.0, 0
        self._dirty = False
        self._synced = time.monotonic()
        whole = self._recover(fingerprint(inputs), prompts)
        self._stream = self.path.open("r+b" if whole else "wb")
        if whole:
            self._stream.truncate(whole)
            self._stream.seek(whole)
        else:
            self._append(self._header)
            self.sync()
            sync_folder(folder)

    def add(self, responses: Sequence[Response], seconds: float = 0.0, n_cached_tokens: int = 0,
            label_logprobs: Sequence[LabelLogprobs] = (), top_logprobs: Sequence[TopLogprobs] = ()) -> None:
        """Write answers down."""
        entry = JournalEntry(tuple(responses), seconds, n_cached_tokens, label_logprobs=tuple(label_logprobs),
                             top_logprobs=tuple(top_logprobs))
        self._append(line_of(entry))
        self._count(entry)

    def logprob_bytes(self, prompt_id: str) -> int:
        """Return about what the log-probabilities beside an answer take in a file, before compression."""
        labels, top = self.label_logprobs.get(prompt_id), self.top_logprobs.get(prompt_id)
        return len(prompt_id) * bool(labels or top is not None) + (
            sum(len(label) + 4 for label in labels.labels) if labels else 0) + (0 if top is None else top.n_bytes)

    def sync(self) -> None:
        """Force what was written to disk."""
        os.fsync(self._stream.fileno())
        self._synced, self._dirty = time.monotonic(), False

    def sync_if_due(self) -> None:
        """Force to disk what was written a second ago or earlier."""
        if self._dirty and time.monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()

    def delete(self) -> None:
        """Delete the file, once the shard's marker stands."""
        self.close()
        self.path.unlink()

    def close(self) -> None:
        """Close the file; what it holds is there for the next run."""
        self._stream.close()

    def _append(self, line: bytes) -> None:
        self._stream.write(line)
        self._stream.flush()
        self._dirty = True
        self.sync_if_due()

    def _count(self, entry: JournalEntry) -> None:
        for item in entry.responses:
            self.responses.setdefault(item.prompt_id, item)
        for scored in entry.label_logprobs:  # the last one: what was there before was of other labels, and asked again
            self.label_logprobs[scored.prompt_id] = scored
        for top in entry.top_logprobs:
            self.top_logprobs[top.prompt_id] = top
        self.seconds += entry.seconds
        self.n_cached_tokens += entry.n_cached_tokens

    def _recover(self, mark: str, prompts: Collection[str] | None) -> int:
        """Take over what is there, mended where need be; return how many bytes of the file stay."""
        whole, n_damaged, n_foreign = 0, 0, 0
        for number, (end, value) in enumerate(lines(self.path)):
            whole = end
            if number == 0:
                if value is None or value.get("fingerprint") != mark:
                    self._discard(value)
                    return 0
                continue
            found = portion_of(value)
            known = tuple(item for item in found.responses if prompts is None or item.prompt_id in prompts)
            scored = tuple(item for item in found.label_logprobs if prompts is None or item.prompt_id in prompts)
            top = tuple(item for item in found.top_logprobs if prompts is None or item.prompt_id in prompts)
            n_damaged += found.n_damaged
            n_foreign += (len(found.responses) - len(known) + len(found.label_logprobs) - len(scored)
                          + len(found.top_logprobs) - len(top))
            self._count(replace(found, responses=known, label_logprobs=scored, top_logprobs=top))
        if n_damaged or n_foreign:
            log.warning("Of the answers in %s, %d could be read; %d were damaged, and %d were to prompts that are not "
                        "of this shard. These are left out, and prompts without an answer are asked again.", self.path,
                        len(self.responses), n_damaged, n_foreign)
            line = line_of(JournalEntry(tuple(self.responses.values()), self.seconds, self.n_cached_tokens,
                                        label_logprobs=tuple(self.label_logprobs.values()),
                                        top_logprobs=tuple(self.top_logprobs.values())))
            with atomic_path(self.path) as temporary:
                temporary.write_bytes(self._header + line)
            whole = len(self._header) + len(line)
        return whole

    def _discard(self, header: dict[str, Any] | None) -> None:
        if any(portion_of(value).responses for _, value in lines(self.path)):
            why = "its first line is damaged" if header is None else "they were made from other settings"
            log.warning("The answers in %s are not used (%s). Their prompts are asked again.", self.path, why)


def journalled(folder: Path) -> int:
    """Return how many prompts of shards still running have their answers in a journal."""
    running = [path for path in folder.glob(f"*{JOURNAL}")
               if not marker_path(folder, path.name.removesuffix(JOURNAL)).exists()]
    return sum(len({item.prompt_id for _, value in lines(path) for item in portion_of(value).responses})
               for path in running)


def journal_inputs(folder: Path, name: str) -> dict[str, Any] | None:
    """Return what determined the answers in a shard's journal; None where there is none, or none of them."""
    found = lines(folder / f"{name}{JOURNAL}")
    _, first = next(found, (0, None))
    inputs = first.get("inputs") if first else None
    return inputs if isinstance(inputs, dict) and next(found, None) else None


def is_damaged(folder: Path, name: str) -> bool:
    """Say whether a shard's journal holds anything that is neither its first line nor an answer."""
    return any(value is None if number == 0 else portion_of(value).n_damaged
               for number, (_, value) in enumerate(lines(folder / f"{name}{JOURNAL}")))
