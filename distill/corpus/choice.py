"""Which of the cleaned texts stay: one of those that are alike, and of each domain its share."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from distill.config.schema import Corpus
from distill.corpus.deduplication.dedup import Decision, decide
from distill.corpus.deduplication.sketch import SketchBlocks, Sketches, sketch_normalized
from distill.corpus.domain_shares import mix
from distill.corpus.growing_array import Blocks
from distill.corpus.normalize import normal_forms
from distill.corpus.source_parts import BATCH
from distill.corpus.step_counts import Step
from distill.run.records import open_parquet


@dataclass
class KnownTexts:
    """What is known of the texts that are left, in the order of the file they were written to."""

    sketches: SketchBlocks = field(default_factory=SketchBlocks)
    ids: Blocks = field(default_factory=lambda: Blocks(np.uint8, 10))
    ranks: Blocks = field(default_factory=lambda: Blocks(np.uint64))
    domains: Blocks = field(default_factory=lambda: Blocks(np.int32))
    domain_names: dict[str, int] = field(default_factory=dict)

    def append(self, table: pa.Table, texts: pa.Array, seed: int) -> None:
        """Note what the later steps need to know of texts and their rows."""
        self.sketches.append(sketch_normalized(texts, normal_forms(texts), seed))
        self.ids.append(_packed(table["id"]))
        self.ranks.append(table["rank"].to_numpy())
        self.domains.append(np.array([self.domain_names.setdefault(name, len(self.domain_names))
                                      for name in table["domain"].to_pylist()], np.int32))


def choose(cleaned: Path, config: Corpus, known: KnownTexts, steps: list[Step]) -> np.ndarray:
    """Return which of the cleaned texts stay, (n,) bool; drop and count the others."""
    sketches, ids, ranks = known.sketches.sketches(), known.ids.array(), known.ranks.array()
    n = len(sketches)
    sketches = _one_key_for_each_id(sketches, ids, ranks)
    if config.dedup.enabled:
        decision = decide(sketches, config.dedup.max_distance, config.dedup.keep, config.dedup.group, ranks)
    else:
        decision = _same_id_once(ids, sketches, ranks)
    steps[0].take(n)
    steps[0].give(int(decision.kept.sum()))
    keep, reasons = decision.kept, np.full(n, "", object)
    if len(steps) > 1:
        steps[1].take(int(keep.sum()))
        keep, reasons = mix(keep, known.domains.array(), list(known.domain_names), ranks, config.weights, config.limit)
        steps[1].give(int(keep.sum()))
    _drop(cleaned, sketches, ids, decision, reasons, steps)
    return keep


def _drop(cleaned: Path, sketches: Sketches, ids: np.ndarray, decision: Decision, reasons: np.ndarray,
          steps: list[Step]) -> None:
    """Write down each text that is dropped, for which one or why."""
    at = 0
    with open_parquet(cleaned) as parquet:
        for batch in parquet.iter_batches(batch_size=BATCH, columns=["id", "text"]):
            gone = np.flatnonzero(~decision.kept[at:at + len(batch)] | (reasons[at:at + len(batch)] != ""))
            for place in gone.tolist():
                record_id, text = batch["id"][place].as_py(), batch["text"][place].as_py()
                n = at + place
                if decision.kept[n]:
                    steps[1].drop(record_id, reasons[n], "", text)
                    continue
                by = int(decision.by[n])
                kept_id = ids[by].tobytes().hex()
                if decision.exact[n]:
                    steps[0].drop(record_id, "duplicate_exact", f"same as {kept_id}", text)
                else:
                    distance = int(np.bitwise_count(sketches.simhashes[n] ^ sketches.simhashes[by]))
                    steps[0].drop(record_id, "duplicate_near", f"simhash distance {distance} to {kept_id}", text)
            at += len(batch)


def _one_key_for_each_id(sketches: Sketches, ids: np.ndarray, ranks: np.ndarray) -> Sketches:
    """Make texts of one id copies of each other: of one text, what is masked in one source may stand in another."""
    turn = np.argsort(ranks, kind="stable")
    _, first, group = np.unique(ids[turn].view("V10").reshape(-1), return_index=True, return_inverse=True)
    chosen = np.empty(len(turn), np.int64)
    chosen[turn] = turn[first[group.reshape(-1)]]
    return sketches if np.array_equal(chosen, np.arange(len(turn))) else replace(sketches, keys=sketches.keys[chosen])


def _same_id_once(ids: np.ndarray, sketches: Sketches, ranks: np.ndarray) -> Decision:
    """Decide by id alone, as ids are unique in a corpus."""
    keys = np.zeros((len(ids), 16), np.uint8)
    keys[:, :10] = ids
    no_near = Sketches(keys.view(np.uint64), sketches.simhashes, np.zeros(len(ids), np.bool_), sketches.order,
                       sketches.lengths)
    return decide(no_near, 0, tie=ranks)


def _packed(ids: pa.ChunkedArray) -> np.ndarray:
    """Return hexadecimal ids as bytes: (n, 10) uint8."""
    return np.frombuffer(bytes.fromhex("".join(ids.to_pylist())), np.uint8).reshape(-1, 10)
