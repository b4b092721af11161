"""What comparing texts needs to know of each: a key of its normal form, and its simhash."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from distill.corpus.normalize import near_comparable, normal_form
from distill.corpus.simhash import fingerprints
from distill.records import Text

_BATCH = 512


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text on its way into the corpus. ``simhash`` is None where the text is too short for one, or none is needed."""

    text: Text
    key: bytes
    simhash: int | None


def normal_key(normal: str) -> bytes:
    """Return a 16-byte hash of a normal form."""
    return hashlib.blake2b(normal.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def sketch(texts: Iterable[Text], near: bool = True) -> Iterator[Candidate]:
    """Yield each text with its key and (where ``near``) its simhash, in the order given."""
    from tqdm import tqdm

    iterator = iter(texts)
    with tqdm(desc="corpus: simhash", unit="text", disable=None) as bar:
        while batch := list(islice(iterator, _BATCH)):
            normals = [normal_form(text.text) for text in batch]
            for text, normal, value in zip(batch, normals, simhashes(normals, near), strict=True):
                yield Candidate(text, normal_key(normal), value)
            bar.update(len(batch))


def simhashes(normals: list[str], near: bool = True) -> list[int | None]:
    """Return the simhash of each normal form, None for those too short to be compared by it."""
    values: list[int | None] = [None] * len(normals)
    places = [place for place, normal in enumerate(normals) if near and near_comparable(normal)]
    for place, value in zip(places, fingerprints([normals[place] for place in places]), strict=True):
        values[place] = int(value)
    return values
