"""How much a server takes on, so that no client can exhaust it and none waits for an answer that cannot come."""

from dataclasses import dataclass

from distill.errors import InputError


@dataclass(frozen=True)
class Limits:
    """``max_batch``: texts that the model answers together; ``batch_wait``: seconds that an idle model waits for more.

    Of a request: ``max_texts`` in it, ``max_characters`` of each, ``max_body`` bytes of it, ``body_seconds`` until its
    body is there, and ``timeout`` seconds for its answer. Of all that are in the server: ``max_queue`` texts that wait,
    ``max_held`` bytes of bodies, ``max_connections``. ``header_seconds``: until a connection has sent a request's
    headers.
    """

    max_batch: int = 32
    batch_wait: float = 0.005
    max_texts: int = 256
    max_characters: int = 50_000
    max_body: int = 4 << 20
    body_seconds: float = 20.0
    timeout: float = 60.0
    max_queue: int = 1024
    max_held: int = 128 << 20
    max_connections: int = 4096
    header_seconds: float = 10.0

    def check(self) -> None:
        """Raises InputError where a limit makes no sense."""
        for option, value in (("--max-batch", self.max_batch), ("--max-texts", self.max_texts),
                              ("--max-queue", self.max_queue), ("--max-body", self.max_body)):
            if value < 1:
                raise InputError(f"{option} is {value}, but must be 1 or more.")
        if not 0 < self.timeout <= 86_400:
            raise InputError(f"--timeout is {self.timeout:g}, but must be a number of seconds above 0, a day at "
                             "most.")
        if self.max_texts > self.max_queue:
            raise InputError(f"A request may hold {self.max_texts} texts, but only {self.max_queue} may wait, so that "
                             "it would always be refused. Raise --max-queue, or lower --max-texts.")
