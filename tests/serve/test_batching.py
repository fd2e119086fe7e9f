"""Windows of several requests in shared batches: who is served when, and whose failure is whose."""

import threading

import numpy as np
import pytest

from asr.errors import AudioError
from asr.serve.batching import Batcher

RATE = 100


class Recorder:
    """Stands for a recogniser: remembers its batches, and waits in each until it may go on."""

    sample_rate = RATE

    def __init__(self):
        self.batches, self.allowed, self.begun = [], threading.Semaphore(0), threading.Semaphore(0)

    def recognize_audio(self, waveforms):
        self.begun.release()
        self.allowed.acquire()
        self.batches.append([int(w[0]) for w in waveforms])
        if any(w[0] < 0 for w in waveforms):
            raise AudioError("below zero")
        return [f"{w[0]:.0f}" for w in waveforms]


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def make(recorder):
    made = []

    def make(batch_seconds):
        counted = []
        made.append(Batcher(recorder, batch_seconds, lambda *counts: counted.append(counts)))
        made[-1].counted = counted
        return made[-1]

    yield make
    for _ in range(1000):
        recorder.allowed.release()
    for batcher in made:
        batcher.close()


def window(number, seconds):
    return np.full(round(seconds * RATE), number, np.float32)


def blocked(batcher, recorder):
    """Occupy the recogniser, so that what is queued next is chosen from together."""
    batcher.lane().submit(window(0, 0.01))
    recorder.begun.acquire()


def finish(recorder, futures):
    for _ in range(100):
        recorder.allowed.release()
    return [future.result(10) for future in futures]


def test_requests_that_wait_share_a_batch(make, recorder):
    batcher = make(60)
    blocked(batcher, recorder)
    futures = [batcher.lane().submit(window(n, 2)) for n in (1, 2, 3)]
    assert batcher.num_waiting == 3
    assert finish(recorder, futures) == ["1", "2", "3"]
    assert recorder.batches == [[0], [1, 2, 3]]
    batcher.close()
    assert [counts[:2] for counts in batcher.counted] == [(1, 0.01), (3, 6.0)]


def test_a_batch_is_no_longer_than_allowed_with_its_padding(make, recorder):
    batcher = make(20)
    blocked(batcher, recorder)
    lane = batcher.lane()
    # Three of 10 s would be 30 s; two of 1 s beside one of 10 s would be padded to 30 s too.
    futures = [lane.submit(window(n, s)) for n, s in ((1, 10), (2, 10), (3, 10), (4, 1), (5, 1))]
    finish(recorder, futures)
    assert recorder.batches == [[0], [1, 2], [3, 4], [5]]


def test_a_short_request_overtakes_a_long_one_which_gets_on_nevertheless(make, recorder):
    batcher = make(0.001)  # every window is a batch of its own
    blocked(batcher, recorder)
    long = batcher.lane()
    futures = [long.submit(window(n, 10)) for n in (101, 102, 103)]
    futures += [batcher.lane().submit(window(n, 1)) for n in range(1, 4)]
    finish(recorder, futures)
    assert recorder.batches == [[0], [1], [2], [3], [101], [102], [103]]


def test_a_stream_of_short_requests_does_not_starve_a_long_one(make, recorder):
    batcher = make(0.001)
    blocked(batcher, recorder)
    long = batcher.lane()
    futures = [long.submit(window(n, 3)) for n in (101, 102)]
    # A new short request is there whenever one has been served.
    for n in range(1, 16):
        futures.append(batcher.lane().submit(window(n, 1)))
        recorder.allowed.release()
        recorder.begun.acquire()
    finish(recorder, futures)
    order = [batch[0] for batch in recorder.batches]
    # Each gets half of the time: the long one's 3 s after some 3 s of the others, and again.
    assert 3 <= order.index(101) <= 5
    assert 6 <= order.index(102) <= 9


def test_a_failure_is_its_own_requests_only(make, recorder):
    batcher = make(60)
    blocked(batcher, recorder)
    good, bad, also_good = (batcher.lane().submit(window(n, 1)) for n in (1, -1, 2))
    assert finish(recorder, [good, also_good]) == ["1", "2"]
    with pytest.raises(AudioError, match="below zero"):
        bad.result(10)


def test_what_nobody_waits_for_is_not_recognised(make, recorder):
    batcher = make(60)
    blocked(batcher, recorder)
    gone, kept = (batcher.lane().submit(window(n, 1)) for n in (1, 2))
    gone.cancel()
    finish(recorder, [kept])
    assert recorder.batches == [[0], [2]]


def test_a_call_runs_in_the_recognisers_thread_before_the_next_batch(make, recorder):
    batcher = make(60)
    blocked(batcher, recorder)
    future = batcher.lane().submit(window(1, 1))
    called = batcher.call(lambda: (threading.current_thread().name, len(recorder.batches)))
    assert finish(recorder, [called]) == [("recogniser", 1)]
    assert future.result(10) == "1"


def test_closing_finishes_what_is_queued(make, recorder):
    batcher = make(60)
    futures = [batcher.lane().submit(window(n, 1)) for n in range(5)]
    for _ in range(10):
        recorder.allowed.release()
    batcher.close()
    assert all(future.done() for future in futures)
