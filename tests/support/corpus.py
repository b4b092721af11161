"""Small sources on disk, and the corpus stage run over them; shared by the corpus tests."""

import bz2
import gzip
import io
import json
import lzma
import re
import tarfile
import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow as pa

from distill.config.schema import Corpus
from distill.corpus.build import build_corpus, read_texts
from distill.corpus.clean import clean_text
from distill.run.hashing import content_id
from distill.run.records import BenchmarkText, Drop, read_records

BENCHMARK = ["An entirely different benchmark sentence about the weather in the mountains of the north."]
REVIEWS = [
    "The soup was cold when it came, and the waiter shrugged when we told him about it.",
    "I bought this lamp for my desk; it is bright, quiet and was delivered two days early.",
    "A slow film that trusts its actors, and they carry it to an ending I did not expect.",
    "Never again: three hours on hold, and then they told me my order did not exist.",
]
LINES = "".join(json.dumps({"text": review}) + "\n" for review in REVIEWS).encode()


def corpus(*sources: dict, **sections) -> Corpus:
    return Corpus.model_validate({"sources": list(sources), **sections})


def build(tmp_path: Path, config: Corpus, benchmark=BENCHMARK, seed: int = 42, name: str = "run"):
    def texts():
        found = benchmark() if callable(benchmark) else benchmark
        return [BenchmarkText(text, "task", "test") for text in found]

    outcome = build_corpus(config, seed, tmp_path / name, texts, "benchmark-1")
    return outcome, list(read_texts(tmp_path / name))


def drops(tmp_path: Path, name: str = "run") -> list[Drop]:
    return list(read_records(tmp_path / name / "corpus" / "dropped.parquet", Drop))


def reasons(tmp_path: Path, name: str = "run") -> Counter[str]:
    return Counter(drop.reason for drop in drops(tmp_path, name))


def write(path: Path, data: bytes | str) -> dict:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return {"kind": {".txt": "text"}.get(path.suffix, path.suffix[1:]), "path": str(path)}


def jsonl(path: Path, texts: list, column: str = "text") -> dict:
    return write(path, "".join(json.dumps({column: text}) + "\n" for text in texts))


COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
            ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True)}


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:" + {".gz": "gz", ".tgz": "gz", ".bz2": "bz2"}.get(path.suffix, "")) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def many(n: int) -> list[str]:
    return [f"Review number {k} says something of its own: {content_id(str(k))} {content_id('b', str(k))}"
            for k in range(n)]


def letters(text: str) -> str:
    """The normal form without marks by another way: what is neither punctuation nor space, in NFKC and casefolded."""
    def folded(character: str) -> str:
        form = "NFKD" if "\u3040" <= character < "\u3100" else "NFKC"  # kana: the voice marks apart
        return unicodedata.normalize(form, unicodedata.normalize("NFKC", character).casefold())

    text = "".join(map(folded, clean_text(text, every_escape=True)))
    said = re.sub(r"\bhttps?\b(?:://[^ ]*)?|\bwww\.[^ ]+|(?<!\w)@\w+", " ", text)
    kept = "".join(character for character in said if unicodedata.category(character)[0] not in "PZC"
                   and character not in "$+<=>^`|~\u2044\u2215\u2212" and not "\ufe00" <= character <= "\ufe0f")
    shown = text.replace(" ", "").translate({0x2044: "/", 0x2215: "/", 0x2212: "-", 0x2010: "-", 0x2011: "-"})
    return re.sub(r"([^\d])\1{3,}", r"\1\1\1", kept) or shown
