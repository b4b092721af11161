"""How fast endpoints are tried again and looked after."""

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Seconds: until the second try, doubled with each up to ``most``; of an endpoint's silence until its health is
    asked for; that a first answer is waited for at the start; and between two looks at all that."""

    first: float = 1.0
    longest: float = 30.0
    silence: float = 60.0
    start: float = 60.0
    poll: float = 0.5

    def after(self, failures: float) -> float:
        """Return how long to wait after so many failures, with jitter, so that not all come back at once."""
        return min(self.longest, self.first * math.pow(2.0, max(0.0, failures - 1))) * random.uniform(0.5, 1.0)
