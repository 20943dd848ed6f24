"""Figures of the service for Prometheus, at `/metrics`."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from impasto.api.services.disk import free_percent
from impasto.api.services.studio import Studio
from impasto.api.services.submissions import Submissions
from impasto.core.errors import ImpastoError
from impasto.core.jobs.record import ACTIVE, KINDS, STATUSES, list_name

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The figures of one application: those that it counts, and those that are looked up when they are asked for."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # RSS, processor time, file descriptors
        self._requests = Counter("impasto_requests", "Answers", ["method", "route", "status"], registry=self.registry)
        self._seconds = Histogram(
            "impasto_request_seconds",
            "Seconds until an answer began",
            ["method", "route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._engine = Histogram(
            "impasto_engine_seconds",
            "Seconds that a network took for a picture",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._cache = Counter(
            "impasto_cache",
            "Lookups of pictures and examples, by whether they were held",
            ["cache", "found"],
            registry=self.registry,
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def refused(self, status: int) -> None:
        """Count an answer that the server gave before the application heard of the request."""
        self._requests.labels("other", "none", str(status)).inc()

    def engine(self, model: str, seconds: float) -> None:
        self._engine.labels(model).observe(seconds)

    def cache(self, cache: str, found: bool) -> None:
        self._cache.labels(cache, "yes" if found else "no").inc()

    def watch(self, studio: Studio, submissions: Submissions) -> None:
        """Add the figures of services that have been opened."""
        studio.on_engine = self.engine
        self.registry.register(Look(studio, submissions))


class Look(Collector):
    """Figures that are looked up in the services when they are asked for."""

    def __init__(self, studio: Studio, submissions: Submissions) -> None:
        self.studio, self.submissions = studio, submissions

    def collect(self) -> Iterator[Metric]:
        yield from self._work()
        if self.studio.settings.jobs:
            yield from self._jobs()

    def _work(self) -> Iterator[Metric]:
        studio = self.studio
        yield GaugeMetricFamily("impasto_ready", "A model is loaded", studio.state == "ready")
        working = GaugeMetricFamily("impasto_working", "Requests at work", labels=["kind"])
        waiting = GaugeMetricFamily("impasto_waiting", "Requests in the queue", labels=["kind"])
        for kind, slots in (
            ("paint", studio.slots),
            ("example", studio.example_slots),
            ("submit", self.submissions.slots),
        ):
            working.add_metric([kind], slots.running)
            waiting.add_metric([kind], slots.waiting)
        yield from (working, waiting)
        models = GaugeMetricFamily(
            "impasto_models_found", "Painters asked for, by whether they were loaded", labels=["found"]
        )
        models.add_metric(["yes"], studio.engine.found)
        models.add_metric(["no"], studio.engine.made)
        yield models
        free = GaugeMetricFamily(
            "impasto_free_percent", "Free space of the disks that jobs are kept on, per cent", labels=["disk"]
        )
        for name, percent in free_percent(studio.settings).items():
            free.add_metric([name], percent)
        yield free

    def _jobs(self) -> Iterator[Metric]:
        jobs = self.submissions.jobs
        count = GaugeMetricFamily("impasto_jobs", "Jobs by state", labels=["kind", "status"])
        oldest = GaugeMetricFamily("impasto_oldest_job_seconds", "Age of the oldest job", labels=["kind", "status"])
        attended = GaugeMetricFamily("impasto_worker_alive", "A worker for such jobs is alive", labels=["kind"])
        up = GaugeMetricFamily("impasto_store_up", "The store of jobs answers")
        try:
            for kind in KINDS:
                for status in STATUSES:
                    count.add_metric([kind, status], jobs.store.count(list_name(status, kind)))
                for status in ACTIVE:
                    first = jobs.store.list(list_name(status, kind), limit=1)
                    oldest.add_metric([kind, status], time.time() - first[0].created.timestamp() if first else 0)
                attended.add_metric([kind], jobs.attended(kind))
        except ImpastoError:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield from (count, oldest, attended, up)
