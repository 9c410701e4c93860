"""Count requests, rows and batches, in the form that Prometheus reads."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 180)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


class Metrics:
    """The metrics of a server.

    Args:
        waiting_rows: returns the number of rows that wait.
        held_requests: returns the number of requests that are held.
    """

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, waiting_rows: Callable[[], int], held_requests: Callable[[], int]) -> None:
        self._registry = own = CollectorRegistry()
        self._requests = Counter(
            "harmless_requests", "Requests that were answered", ["path", "status"], registry=own
        )
        self._seconds = Histogram(
            "harmless_request_seconds",
            "Seconds of a request",
            ["path"],
            buckets=_SECONDS,
            registry=own,
        )
        self._rows = Counter("harmless_rows", "Rows that were scored", registry=own)
        self._marked = Counter(
            "harmless_rows_with_marks",
            "Rows with a mark of a chat template that was read as words",
            registry=own,
        )
        self._tokens = Counter(
            "harmless_tokens", "Tokens that were scored, without padding", registry=own
        )
        self._together = Histogram(
            "harmless_rows_together", "Rows that were scored together", buckets=_ROWS, registry=own
        )
        self._busy = Counter("harmless_scoring_seconds", "Seconds of sets of rows", registry=own)
        waiting = Gauge(
            "harmless_rows_waiting", "Rows that wait to be tokenised or scored", registry=own
        )
        waiting.set_function(waiting_rows)
        held = Gauge(
            "harmless_requests_held",
            "Requests that are held until there is room for their rows",
            registry=own,
        )
        held.set_function(held_requests)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def not_found(self, path: str, status: int) -> None:
        """Count a request that nothing answers: its path, or its method, is none of the server's.

        Args:
            path: its path, if the server has it, or "other".
            status: the status code.
        """
        self._requests.labels(path, status).inc()

    def marked(self, rows: int) -> None:
        """Count rows with a mark of a chat template among their words."""
        self._marked.inc(rows)

    def scored(self, rows: int, tokens: int, seconds: float) -> None:
        """Count a set of rows that were scored together."""
        self._rows.inc(rows)
        self._tokens.inc(tokens)
        self._together.observe(rows)
        self._busy.inc(seconds)

    def text(self) -> bytes:
        """Return all metrics."""
        return generate_latest(self._registry)
