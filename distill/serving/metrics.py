"""What a server tells Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counts of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        name = "sentidistill_"
        self.requests = Counter(f"{name}requests", "Requests by path and status (499: the client went away)",
                                ["path", "status"], registry=self._registry)
        self.seconds = Histogram(f"{name}request_seconds", "From a request's headers to its answer", ["path"],
                                 buckets=_SECONDS, registry=self._registry)
        self.problems = Counter(f"{name}problems", "Texts with a problem, by the first words of it", ["problem"],
                                registry=self._registry)
        self.waiting = Gauge(f"{name}texts_waiting", "Texts that wait for their batch", registry=self._registry)
        self.failures = Counter(f"{name}model_failures", "How often the model died or raised an error",
                                registry=self._registry)
        self._texts = Counter(f"{name}texts", "Texts that the model answered", registry=self._registry)
        self._batch_texts = Histogram(f"{name}batch_texts", "Texts in a batch", buckets=_SIZES,
                                      registry=self._registry)
        self._batch_seconds = Histogram(f"{name}batch_seconds", "Seconds of a batch", buckets=_SECONDS,
                                        registry=self._registry)

    def answered(self, texts: int, seconds: float) -> None:
        """Count a batch."""
        self._texts.inc(texts)
        self._batch_texts.observe(texts)
        self._batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """Return all in Prometheus' text format."""
        return generate_latest(self._registry)
