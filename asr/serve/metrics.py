"""What Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_AUDIO_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300)
_WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128)
_FACTORS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)


class Metrics:
    """Counts and times of one service.

    Parameters
    ----------
    model : str
        Shown as the label of ``asr_model_info``.
    num_waiting, num_requests, num_live : callable
        Return the windows in the queue, and the uploads and the live streams in progress.
    """

    def __init__(
        self,
        model: str,
        num_waiting: Callable[[], int],
        num_requests: Callable[[], int],
        num_live: Callable[[], int],
    ) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Gauge("asr_model_info", "The model that is served.", ["model"], registry=registry).labels(model).set(
            1
        )
        gauges = {
            "asr_queue_windows": ("Windows of audio that wait for the recogniser.", num_waiting),
            "asr_requests_in_progress": ("Transcriptions that are received or worked on.", num_requests),
            "asr_live_streams": ("Live streams that are open.", num_live),
        }
        for name, (help, function) in gauges.items():
            Gauge(name, help, registry=registry).set_function(function)
        self.requests = Counter(
            "asr_requests", "Requests answered.", ["endpoint", "status"], registry=registry
        )
        self.errors = Counter("asr_errors", "Requests refused or failed.", ["code"], registry=registry)
        self.audio_seconds = Counter(
            "asr_audio_seconds", "Audio that was transcribed, seconds.", ["source"], registry=registry
        )
        self.recognition_seconds = Counter(
            "asr_recognition_seconds", "Time in the recogniser, seconds.", registry=registry
        )
        self.latency = Histogram(
            "asr_request_seconds",
            "Time from a request's first byte to the last of its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.real_time_factor = Histogram(
            "asr_real_time_factor",
            "Time in the recogniser per second of audio, each batch.",
            buckets=_FACTORS,
            registry=registry,
        )
        self.batch_windows = Histogram(
            "asr_batch_windows", "Windows in a batch.", buckets=_WINDOWS, registry=registry
        )
        self.batch_audio_seconds = Histogram(
            "asr_batch_audio_seconds", "Audio in a batch, seconds.", buckets=_AUDIO_SECONDS, registry=registry
        )

    def count_batch(self, num_windows: int, audio_seconds: float, seconds: float) -> None:
        """Take down a batch."""
        self.batch_windows.observe(num_windows)
        self.batch_audio_seconds.observe(audio_seconds)
        self.recognition_seconds.inc(seconds)
        self.real_time_factor.observe(seconds / audio_seconds)

    def text(self) -> bytes:
        """Return all of it in Prometheus's text format."""
        return generate_latest(self.registry)
