import itertools

import numpy as np
import pytest

from asr.audio import AudioStream
from asr.errors import ConfigError
from asr.types import Hypothesis, Word
from asr.windows import Joiner, Window, WindowOptions, cutting, join, read_windows

RATE = 8000


def sound(*parts):
    """Return samples of (seconds, level) parts of noise."""
    rng = np.random.default_rng(0)
    return np.concatenate(
        [level * rng.standard_normal(round(seconds * RATE)) for seconds, level in parts]
    ).astype(np.float32)


def cut(samples, clips=((0.0, None),), **options):
    chosen = {"vad": "energy", "max_speech_duration_s": 4.0, "context_s": 0.5, "min_silence_duration_ms": 500}
    return list(read_windows(AudioStream(samples, RATE), WindowOptions(**(chosen | options)), clips))


QUIET, LOUD = 1e-4, 0.1


def test_windows_hold_their_stretch_of_the_recording():
    samples = sound((1, QUIET), (2, LOUD), (1, QUIET), (9, LOUD), (0.3, QUIET), (2, LOUD), (1, QUIET))
    windows = cut(samples)
    assert len(windows) > 4
    for window in windows:
        first = round(window.start * RATE)
        np.testing.assert_array_equal(window.samples, samples[first : first + len(window.samples)])
        assert window.duration <= 4.0 + 1e-6


def test_windows_end_in_silence_with_a_little_of_it():
    samples = sound((1, QUIET), (1, LOUD), (2, QUIET), (1.5, LOUD), (1, QUIET))
    windows = cut(samples, speech_pad_ms=100)
    assert [window.continues for window in windows] == [False, False]
    assert [window.start for window in windows] == pytest.approx([0.9, 3.9], abs=0.02)
    assert [window.end for window in windows] == pytest.approx([2.1, 5.6], abs=0.02)


def test_padding_goes_no_further_than_the_quietest_moment_of_a_pause():
    samples = sound((1, QUIET), (1, LOUD), (0.6, QUIET), (1, LOUD), (1, QUIET))
    first, second = cut(samples, speech_pad_ms=1000, min_silence_duration_ms=300)
    assert first.end == second.start
    assert 2.08 <= first.end <= 2.52


def test_speech_that_goes_on_is_cut_where_it_is_quietest_and_heard_on_both_sides():
    # Dips to a tenth of the level, shorter than a pause.
    samples = sound(
        (1, QUIET), (2.2, LOUD), (0.2, LOUD / 10), (2.5, LOUD), (0.2, LOUD / 10), (2, LOUD), (1, QUIET)
    )
    windows = cut(samples)
    assert [window.continues for window in windows] == [False, True, True]
    assert [window.begin for window in windows[1:]] == pytest.approx([3.3, 6.0], abs=0.1)
    for before, after in itertools.pairwise(windows):
        assert before.end - after.begin == pytest.approx(0.5, abs=0.04)
        assert after.begin - after.start == pytest.approx(0.5, abs=0.04)


def test_a_pause_within_long_speech_is_cut_without_sharing():
    samples = sound((1, QUIET), (2, LOUD), (0.7, QUIET), (3, LOUD), (1, QUIET))
    windows = cut(samples, min_silence_duration_ms=2000)
    assert [window.continues for window in windows] == [False, False]
    assert windows[0].end <= windows[1].start == pytest.approx(3.4, abs=0.35)


@pytest.mark.parametrize("offset", [0.01, 0.5, 1.234, 2.0007, 5.9])
def test_windows_of_speech_without_pauses_are_soon_the_same_wherever_it_begins(offset):
    rng = np.random.default_rng(1)
    samples = sound(*((seconds, LOUD * level) for seconds, level in rng.uniform(0.05, 1, (400, 2))))

    def places(begin):
        windows = cut(samples, ((begin, None),), vad="none")
        return [(round(w.start * RATE), round(w.begin * RATE), len(w.samples)) for w in windows]

    whole, moved = places(0.0), places(round(offset * RATE) / RATE)
    same = [place in whole for place in moved]
    assert all(same[same.index(True) :])
    assert moved[same.index(True)][1] / RATE < offset + 20


@pytest.mark.parametrize("offset", [0.01, 0.5, 1.234])
def test_windows_between_pauses_are_the_same_wherever_the_recording_begins(offset):
    rng = np.random.default_rng(1)
    parts = [((rng.uniform(0.9, 2), QUIET), (rng.uniform(0.3, 3), LOUD)) for _ in range(40)]
    samples = sound((2, QUIET), *(part for pair in parts for part in pair), (1, QUIET))

    def places(begin):
        return [(round(w.start * RATE), len(w.samples)) for w in cut(samples, ((begin, None),))]

    whole, moved = places(0.0), places(round(offset * RATE) / RATE)
    assert sum(place in whole for place in moved) >= 0.9 * len(whole)


@pytest.mark.parametrize("block", [1, 3])
def test_what_is_read_at_a_time_changes_nothing(monkeypatch, block):
    samples = sound((1, QUIET), (9, LOUD), (1, QUIET), (2, LOUD), (0.8, QUIET), (12, LOUD), (1, QUIET))
    whole = cut(samples)
    monkeypatch.setattr("asr.audio.stream._BLOCK", block)
    parts = cut(samples)
    assert [(w.start, w.begin, w.continues, len(w.samples)) for w in parts] == [
        (w.start, w.begin, w.continues, len(w.samples)) for w in whole
    ]


def test_short_recordings_are_left_as_they_are():
    samples = sound((1, QUIET), (1, LOUD), (1.5, QUIET))
    (window,) = cut(samples, vad="auto")
    assert (window.start, window.begin, window.continues) == (0.0, 0.0, False)
    np.testing.assert_array_equal(window.samples, samples)


def test_silence_has_no_windows():
    assert cut(sound((10, QUIET))) == []
    assert cut(np.zeros(10 * RATE, np.float32)) == []


def test_clips_are_cut_each_on_its_own_with_the_recording_s_times():
    samples = sound((1, QUIET), (1, LOUD), (1, QUIET), (1, LOUD), (1, QUIET), (1, LOUD), (1, QUIET))
    windows = cut(samples, ((0.0, 2.5), (4.5, None)), speech_pad_ms=0)
    assert [window.start for window in windows] == pytest.approx([1.0, 5.0], abs=0.02)


def test_speech_that_is_too_short_is_passed_over():
    samples = sound((1, QUIET), (0.1, LOUD), (1, QUIET), (1, LOUD), (1, QUIET))
    assert len(cut(samples)) == 2
    assert len(cut(samples, min_speech_duration_ms=250)) == 1


@pytest.fixture
def detector(monkeypatch):
    """Let the detector hear what a test says: (start, end, probability), seconds; nothing elsewhere."""

    def set_speech(*speech):
        class Detector:
            def __init__(self, sample_rate):
                self.samples = self.frames = 0

            def push(self, samples, *, final=False):
                self.samples += len(samples)
                times = np.arange(self.frames, self.samples // 256) * 0.032
                self.frames += len(times)
                heard = [(times > start) & (times < end) for start, end, _ in speech]
                return np.select(heard, [probability for _, _, probability in speech], 0.0)

        monkeypatch.setitem(cutting.DETECTORS, "energy", Detector)

    return set_speech


def test_speech_that_the_detector_is_hardly_sure_of_must_last_longer(detector):
    detector((2, 3, 0.6), (7, 8, 0.9))
    samples = np.full(256 * 320, 1e-3, np.float32)
    for least, starts in ((0, [2.0, 7.0]), (750, [7.0]), (950, [])):
        windows = cut(samples, min_speech_duration_ms=least, speech_pad_ms=0)
        assert [window.start for window in windows] == pytest.approx(starts, abs=0.9)


@pytest.mark.parametrize("seed", range(24))
def test_whatever_is_heard_windows_are_short_enough_and_the_same_in_any_pieces(monkeypatch, seed):
    rng = np.random.default_rng(seed)
    samples = sound(*zip(rng.uniform(0.02, 2, 40), 10 ** rng.uniform(-4, -0.5, 40), strict=True))
    stretches = rng.integers(1, 60, 80)
    probabilities = np.repeat(rng.choice([0, 0, 0.1, 0.25, 0.4, 0.9], 80), stretches)
    probabilities = np.resize(probabilities, len(samples) // 256)

    class Detector:
        def __init__(self, sample_rate):
            self.samples = self.frames = 0

        def push(self, samples, *, final=False):
            self.samples += len(samples)
            start, self.frames = self.frames, self.samples // 256
            return probabilities[start : self.frames]

    monkeypatch.setitem(cutting.DETECTORS, "energy", Detector)
    options = WindowOptions.for_model([2.0, 4.0, 6.3, 15.0][seed % 4], vad="energy")

    def windows(ends):
        cutter = cutting._Cutter(options, "energy", RATE, 0.0)
        found = [w for piece in np.split(samples, ends) for w in cutter.push(piece)]
        return [*found, *cutter.push(samples[:0], final=True)]

    def places(found):
        return [(w.start, w.begin, w.continues, len(w.samples)) for w in found]

    whole = windows([])
    assert len(whole) > 1
    for window in whole:
        first = round(window.start * RATE)
        np.testing.assert_array_equal(window.samples, samples[first : first + len(window.samples)])
        assert 0 < window.duration <= options.max_speech_duration_s + 1e-6
    for before, after in itertools.pairwise(whole):
        assert after.continues or after.start >= before.end - 1e-9
    assert places(windows(np.arange(777, len(samples), 777))) == places(whole)


def test_windows_in_noise_are_mostly_the_same_wherever_the_recording_begins():
    # Speech that hardly stands out, so that quiet moments tell where it begins and ends.
    rng = np.random.default_rng(0)
    parts = [[(rng.uniform(0.7, 1.5), 0.005), (rng.uniform(0.4, 2), 0.03)] for _ in range(60)]
    samples = sound((3, 0.005), *itertools.chain.from_iterable(parts), (2, 0.005))

    def places(begin):
        windows = cut(samples, ((begin, None),), speech_pad_ms=180)
        return {(round(w.start * RATE), len(w.samples)) for w in windows if w.start > 4}

    whole = places(0.0)
    # Of 59 windows 26 of the three; 42 if quiet moments are not kept to a grid.
    assert sum(len(whole - places(begin)) for begin in (0.37, 1.3, 2.0)) <= 32


@pytest.mark.parametrize("seconds", [3.0, 3.4, 3.85])
@pytest.mark.parametrize("pause", [0.6, 1.2])
def test_speech_that_fits_is_not_cut(detector, seconds, pause):
    samples = sound((3, QUIET), (seconds, LOUD), (pause, QUIET), (1, LOUD), (3, QUIET))
    ends = 3 + seconds
    detector((3.1, ends - 0.1, 0.9), (ends + pause, ends + pause + 1, 0.9))
    first, second = cut(samples, speech_pad_ms=200)
    assert not second.continues
    assert first.duration <= 4.0
    assert first.start <= 3.0
    assert ends <= first.end <= second.start <= ends + pause


def test_words_that_the_detector_misses_before_another_are_found_where_no_longer_pause_parts_them(detector):
    # Words at 4, 4.9 and 5.8 s, of which only the last is heard, and a sound at 2 s that is a second away.
    parts = [(2, QUIET), (1, LOUD), (1, QUIET), *[(0.6, LOUD), (0.3, QUIET)] * 3, (3, QUIET)]
    samples = sound(*parts)
    detector((5.9, 6.3, 0.9))
    (window,) = cut(samples, speech_pad_ms=100)
    assert window.start == pytest.approx(3.9, abs=0.02)
    assert window.end == pytest.approx(6.5, abs=0.02)
    (window,) = cut(samples, speech_pad_ms=100, max_speech_duration_s=2.0)  # no longer than a window may be
    assert window.duration <= 2.0
    detector((2.1, 2.9, 0.9), (5.9, 6.3, 0.9))  # nothing comes twice
    first, second = cut(samples, speech_pad_ms=100)
    assert first.end <= second.start == pytest.approx(3.9, abs=0.02)


def test_speech_hardly_louder_than_the_background_begins_at_a_quiet_moment_near_it(detector):
    detector((6, 7, 0.9))
    noise = sound((5.7, 0.01), (0.2, 0.005), (1.1, 0.1), (3, 0.01))
    (window,) = cut(noise, speech_pad_ms=100, max_speech_duration_s=8.0)
    assert window.start == pytest.approx(5.8, abs=0.1)


@pytest.mark.parametrize(
    "parts",
    [
        [(4, QUIET), (0.4, 0.5), (1.6, QUIET), (1.0, 3 * QUIET)],
        [(4, QUIET), (0.4, 0.01), (1.6, QUIET), (1.0, 3 * QUIET)],
        [(4, 0.01), (0.1, 0.8), (1.9, 0.01), (1.0, 0.025)],
        [(4, 0), (2, 0.01), (1.0, 0.1)],
    ],
)
def test_what_comes_long_before_speech_does_not_take_its_place(detector, parts):
    detector((6, 7, 0.9))
    (window,) = cut(sound(*parts, (3, parts[0][1] or 0.01)), speech_pad_ms=100, max_speech_duration_s=8.0)
    assert 5.5 < window.start < 6
    assert window.end > 7


@pytest.mark.parametrize("pause", [0.12, 0.25, 0.5])
def test_missed_words_right_behind_a_window_come_with_the_next(detector, pause):
    parts = [(2, QUIET), (1, LOUD), (pause, QUIET), (0.7, LOUD), (0.2, QUIET), (0.7, LOUD)]
    samples = sound(*parts, (0.2, QUIET), (0.7, LOUD), (3, QUIET))
    detector((2, 3, 0.9), (4.9 + pause, 5.5 + pause, 0.9))
    first, second = cut(samples, speech_pad_ms=100, max_speech_duration_s=8.0)
    assert second.start >= first.end
    assert first.end >= 3 + pause or second.start <= 3 + pause


@pytest.mark.parametrize("block", [1, 2, 3])
def test_what_is_looked_back_for_is_kept(detector, block, monkeypatch):
    samples = sound((3, QUIET), (2.4, LOUD / 2), (0.6, QUIET), (1, LOUD), (3, QUIET))
    options = {"speech_pad_ms": 100, "max_speech_duration_s": 8.0, "min_silence_duration_ms": 300}
    detector((5.2, 5.4, 0.25), (6, 7, 0.9))
    (whole,) = cut(samples, **options)
    monkeypatch.setattr("asr.audio.stream._BLOCK", block)
    (window,) = cut(samples, **options)
    assert window.start == whole.start == pytest.approx(2.9, abs=0.02)
    np.testing.assert_array_equal(window.samples, whole.samples)


def test_a_sound_beside_what_the_detector_heard_leaves_a_window(detector):
    samples = sound((5, QUIET), (0.5, 2 * QUIET), (0.5, QUIET), (0.25, LOUD), (3, QUIET))
    detector((5, 5.5, 0.9))
    for pad in (0, 100, 400):
        (window,) = cut(samples, speech_pad_ms=pad, max_speech_duration_s=8.0)
        assert window.duration > 0.1


def test_unlikely_speech_is_heard_where_likely_speech_is_near(detector):
    samples = np.full(256 * 960, 1e-3, np.float32)
    detector((2, 3, 0.3), (3.3, 3.5, 0.6), (7, 8, 0.3))
    (window,) = cut(samples)
    assert window.start < 2
    assert 3.5 < window.end < 7
    detector((2, 3, 0.3), (5, 5.2, 0.6))
    (window,) = cut(samples)
    assert window.start > 3
    detector((2, 25, 0.3))
    assert cut(samples) == []
    detector((2, 25, 0.3), (25, 26, 0.9))
    windows = cut(samples)
    assert 20 < windows[0].start < 25
    assert windows[-1].end > 26


@pytest.mark.parametrize(
    ("seconds", "window", "speech", "silence", "pad", "context"),
    [
        (None, 15.0, 200, 1500, 400, 1.5),
        (0.5, 2.0, 48, 300, 57, 0.4),
        (6.3, 6.3, 150, 630, 180, 1.26),
        (120.0, 30.0, 200, 2000, 400, 1.5),
    ],
)
def test_options_follow_the_model_s_training(seconds, window, speech, silence, pad, context):
    options = WindowOptions.for_model(seconds, threshold=0.4, vad=None)
    assert options == WindowOptions(
        threshold=0.4,
        max_speech_duration_s=window,
        min_speech_duration_ms=speech,
        min_silence_duration_ms=silence,
        speech_pad_ms=pad,
        context_s=context,
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"vad": "webrtc"}, "vad webrtc: unknown; choose from auto, silero"),
        ({"threshold": 1.5}, "threshold 1.5: not a probability"),
        ({"speech_pad_ms": -1}, "speech_pad_ms -1: give 0 or more"),
        ({"max_speech_duration_s": 0.5}, "max_speech_duration_s 0.5: give 1 to 1800"),
        ({"context_s": 10.0}, "context_s 10: give 0 to 3.75 seconds"),
    ],
)
def test_options_that_make_no_sense(options, problem):
    with pytest.raises(ConfigError, match=problem):
        WindowOptions(**options)


def window(start, end, begin=None):
    samples = np.zeros(round((end - start) * RATE), np.float32)
    return Window(samples, RATE, start, start if begin is None else begin, begin is not None)


def heard(start, *words):
    """A hypothesis of (text, start, end[, confidence]) words in the recording's time."""
    made = tuple(Word(t, a - start, b - start, *(rest or (0.9,)), (1,)) for t, a, b, *rest in words)
    return Hypothesis(" ".join(w.text for w in made), made, (), 0.0, 0.9)


def joined(*pairs):
    return [(w.text, round(w.start, 6), round(w.end, 6)) for w in join(pairs)]


def test_words_of_separate_windows_are_put_in_a_row():
    assert joined(
        (window(1, 3), heard(1, ("one", 1.2, 1.5))),
        (window(4, 6), heard(4)),
        (window(7, 9), heard(7, ("two", 7.2, 7.5))),
    ) == [("one", 1.2, 1.5), ("two", 7.2, 7.5)]


def test_a_word_that_both_windows_hear_comes_once():
    before = heard(0, ("one", 0.5, 1), ("two", 2, 2.5), ("three", 3.4, 3.8), ("thr", 3.9, 4.0))
    after = heard(2, ("o", 2.2, 2.4), ("three", 3.45, 3.85), ("four", 4.2, 4.6))
    assert joined((window(0, 4), before), (window(2, 6, 3), after)) == [
        ("one", 0.5, 1),
        ("two", 2, 2.5),
        ("three", 3.45, 3.85),
        ("four", 4.2, 4.6),
    ]


def test_a_word_said_twice_comes_twice():
    twos = [("two", 0.4 * i, 0.4 * i + 0.3) for i in range(15)]
    before = [two for two in twos if two[2] <= 4]
    after = [two for two in twos if two[1] >= 2]
    assert joined((window(0, 4), heard(0, *before)), (window(2, 6, 3), heard(2, *after))) == [
        (text, pytest.approx(a), pytest.approx(b)) for text, a, b in twos
    ]


@pytest.mark.parametrize(("first", "second", "kept"), [(0.9, 0.4, "sic"), (0.4, 0.9, "six")])
def test_of_two_readings_of_a_sound_on_the_cut_the_more_probable_stays(first, second, kept):
    before = heard(0, ("one", 0.5, 1), ("sic", 2.7, 3.2, first))
    after = heard(2, ("six", 2.85, 3.3, second), ("four", 4.2, 4.6))
    words = joined((window(0, 4), before), (window(2, 6, 3), after))
    assert [text for text, _, _ in words] == ["one", kept, "four"]


def test_times_never_go_back_and_stay_in_their_window():
    words = joined(
        (window(0, 4), heard(0, ("one", 2.9, 3.4))),
        (window(2, 6, 3), heard(2, ("two", 3.1, 3.3), ("three", 5.8, 6.2))),
    )
    ends = [0.0]
    for _, start, end in words:
        assert ends[-1] <= start <= end <= 6
        ends.append(end)


def test_every_cut_of_any_speech_is_joined_without_loss():
    """Windows that each hear their whole words rightly give exactly the words that were said."""
    rng = np.random.default_rng(0)
    starts = np.cumsum(rng.uniform(0.25, 0.5, 300))
    said = [(str(rng.integers(10)), a, b) for a, b in zip(starts, starts + 0.24, strict=True)]
    for seed in range(20):
        cuts = np.cumsum(np.random.default_rng(seed).uniform(1.5, 3, 40))
        joiner, words, begin = Joiner(), [], 0.0
        for cut in [*cuts, starts[-1] + 1]:
            piece = window(max(begin - 0.6, 0), cut + 0.6, begin if begin else None)
            # Times differ a little from window to window, and a word cut in half is heard as another.
            shift = rng.uniform(-0.03, 0.03)
            inside = [
                (t if a >= piece.start and b <= piece.end else "x", a + shift, b + shift)
                for t, a, b in said
                if b > piece.start and a < piece.end
            ]
            words += joiner.add(piece, heard(piece.start, *inside))
            begin = cut
            if begin > starts[-1]:
                break
        words += joiner.finish()
        expected = [t for t, a, _ in said if a < begin + 0.3]
        assert [w.text for w in words][: len(expected) - 3] == expected[: len(expected) - 3]
