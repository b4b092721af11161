"""Random choices of the prompts: derived from seed, record id and purpose alone, and in the shares that weights say."""

import math
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from hashlib import shake_128
from itertools import accumulate, permutations, product

_WORDS = struct.Struct("<21Q")  # one block of SHAKE128
_MOST_CIRCLES = 5_000  # that are made beforehand (two groups of four: 1,152); of more, each draw makes the one it needs


class PromptRng:
    """Random numbers that depend on nothing but their three arguments.

    As :func:`distill.run.hashing.derived_rng`, whose generator takes longer to set up than a prompt takes to build.
    """

    __slots__ = ("_key", "_turn", "_words")

    def __init__(self, seed: int, record_id: str, purpose: str) -> None:
        """Begin the numbers."""
        self._key = f"{seed}\0{record_id}\0{purpose}".encode("utf-8", "surrogatepass")
        self._turn = 0
        self._words: Iterator[int] = iter(())

    def word(self) -> int:
        """Return the next 64 random bits."""
        try:
            return next(self._words)
        except StopIteration:
            block = shake_128(self._key + self._turn.to_bytes(4, "little")).digest(_WORDS.size)
            self._turn += 1
            self._words = iter(_WORDS.unpack(block))
            return next(self._words)

    def below(self, n: int) -> int:
        """Return a number from 0 to ``n`` - 1, each as likely but for n / 2^64."""
        return self.word() * n >> 64

    def shuffled(self, items: list[int]) -> Iterator[int]:
        """Yield the items in random order, drawing only as far as they are asked for. The list is used up."""
        size = len(items)
        for at in range(size):
            other = at + (self.word() * (size - at) >> 64)
            items[at], items[other] = items[other], items[at]
            yield items[at]


class SystematicSampler:
    """Draws ``count`` of weighted items, each as often as its weight says: circular systematic sampling.

    Items stand in groups, and both are put in random order on a circle, each item with the length of its share;
    ``count`` points at equal distances, the first at random, choose. So the expected number of draws of an item is
    ``count`` times its share, and no item, and no group, is drawn a whole time more or less often than that: of two
    groups of one weight, two draws take one each. With ``once`` no item is drawn twice: one whose share would be
    more than one draw has one, the others share the rest, and what is drawn is at most all of them.
    The first item drawn is the same for every ``count`` (but for shares that ``once`` has cut).
    """

    def __init__(self, groups: Mapping[str, Mapping[str, float]], count: int, once: bool) -> None:
        """``groups`` are the items' weights, 0 or more; an item of weight 0 is never drawn."""
        exact = {(group, item): Fraction(repr(weight)) for group, items in groups.items()
                 for item, weight in items.items() if weight > 0}
        expected = _expected(exact, min(count, len(exact)) if once else count, once)
        self._unit = math.lcm(*(share.denominator for share in expected.values()))
        self._end = int(sum(expected.values()) * self._unit)
        lengths: dict[str, list[tuple[tuple[str, str], int]]] = {}
        for key, share in sorted(expected.items()):
            lengths.setdefault(key[0], []).append((key, int(share * self._unit)))
        self._groups = list(lengths.values())
        n_circles = math.factorial(len(self._groups)) * math.prod(map(math.factorial, map(len, self._groups)))
        self._circles = [_circle(item for group in order for item in group)
                         for groups in permutations(self._groups)
                         for order in product(*(permutations(group) for group in groups))
                         ] if n_circles <= _MOST_CIRCLES else []

    def draw(self, rng: PromptRng) -> list[tuple[str, str]]:
        """Return the (group, item) drawn, in random order."""
        if self._circles:
            line, ends = self._circles[rng.below(len(self._circles))]
        else:
            groups = [[group[place] for place in rng.shuffled([*range(len(group))])] for group in self._groups]
            line, ends = _circle(item for place in rng.shuffled([*range(len(groups))]) for item in groups[place])
        start = rng.below(self._end)
        return [line[bisect_right(ends, (start + point) % self._end)] for point in range(0, self._end, self._unit)]


def _circle(items: Iterable[tuple[tuple[str, str], int]]) -> tuple[list[tuple[str, str]], list[int]]:
    """Return items in a row, and where each ends."""
    keys, lengths = zip(*items, strict=True)
    return list(keys), list(accumulate(lengths))


def _expected(weights: Mapping[tuple[str, str], Fraction], count: int, once: bool) -> dict[tuple[str, str], Fraction]:
    """Return how often each item is drawn on average: in proportion to the weights, ``once`` at most one time."""
    whole: dict[tuple[str, str], Fraction] = {}
    rest = dict(weights)
    while rest:
        scale = (count - len(whole)) / sum(rest.values(), Fraction())
        over = [key for key, weight in rest.items() if once and weight * scale > 1]
        if not over:
            return whole | {key: weight * scale for key, weight in rest.items()}
        whole |= dict.fromkeys(over, Fraction(1))
        rest = {key: weight for key, weight in rest.items() if key not in over}
    return whole
