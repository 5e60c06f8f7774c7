"""Figures for Prometheus: a registry of the server's own, so that several servers fit into one process."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_JOB_BUCKETS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0, 3600.0)

_COUNTED = frozenset({"impasto_worker_deaths"})  # only ever grows; Prometheus knows it as …_total

Gauges = Callable[[], Iterable[tuple[str, str, dict[str, str], float]]]
"""Gives name, help, labels and value of what is as it is now."""


class Metrics:
    """Counters and histograms of a server; gauges are asked for when somebody looks."""

    def __init__(self, gauges: Gauges) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "impasto_requests",
            "Requests by route, method and status",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "impasto_request_seconds",
            "Time of requests by route",
            ("route",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._paintings = Histogram(
            "impasto_painting_seconds",
            "Time in the engine",
            ("engine", "lane"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._jobs = Histogram(
            "impasto_job_seconds",
            "Time of jobs from arrival to end",
            ("engine", "status"),
            buckets=_JOB_BUCKETS,
            registry=self._registry,
        )
        self._received = Counter("impasto_received_bytes", "Bytes of requests", registry=self._registry)
        self._registry.register(_Gauges(gauges))

    def request(self, route: str, method: str, status: int, seconds: float, received: int) -> None:
        """A request ended."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        self._received.inc(received)

    def painting(self, engine: str, lane: str, seconds: float) -> None:
        """An engine painted."""
        self._paintings.labels(engine, lane).observe(seconds)

    def job(self, engine: str, status: str, seconds: float) -> None:
        """A job ended."""
        self._jobs.labels(engine, status).observe(seconds)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for name, text, labels, value in self._gauges():
            kind = CounterMetricFamily if name in _COUNTED else GaugeMetricFamily
            family = families.setdefault(name, kind(name, text, labels=list(labels)))
            family.add_metric(list(labels.values()), value)
        return families.values()

    def describe(self) -> Iterable[Metric]:
        return ()
