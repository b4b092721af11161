"""Which requests vLLM may run at once: of two kinds of log-probabilities, it gives one in a step."""

from collections import deque
from collections.abc import Iterable

from distill.engines.base import Request


class Turns:
    """Requests in turns of a kind, in their order else.

    Where some requests of a step want the likeliest tokens (``logprobs``) and others those of certain ones
    (``logprob_token_ids``), vLLM gives the former no more than the token it chose. So one kind waits until the other
    has ended; up to ``most`` that wait are passed by.
    """

    def __init__(self, requests: Iterable[Request], most: int) -> None:
        self._requests, self._most = iter(requests), most
        self._waiting: deque[Request] = deque()
        self._kind: str | None = None
        self._ended = False

    @property
    def more(self) -> bool:
        """Whether any may be left."""
        return bool(self._waiting) or not self._ended

    def next(self, idle: bool) -> Request | None:
        """Return the next that may run beside what runs; None where there is none now. ``idle``: nothing runs."""
        if idle:
            self._kind = None
        if self._waiting and self._fits(self._waiting[0]):
            return self._begin(self._waiting.popleft())
        while len(self._waiting) < self._most and not self._ended:
            request = next(self._requests, None)
            if request is None:
                self._ended = True
            elif self._fits(request):
                return self._begin(request)
            else:
                self._waiting.append(request)
        return None

    def _fits(self, request: Request) -> bool:
        return self._kind is None or _kind(request) in (None, self._kind)

    def _begin(self, request: Request) -> Request:
        self._kind = self._kind or _kind(request)
        return request


def _kind(request: Request) -> str | None:
    return "top" if request.top_k else "labels" if request.labels else None
