import numpy as np
import pytest
import soundfile as sf
import torch

from asr.errors import AudioError, ConfigError
from asr.transcribe import _ahead, transcribe, transcribe_files
from asr.windows import WindowOptions

RATE = 16000


@pytest.fixture(scope="module")
def recognizer(tiny_recognizer):
    words = {"_target_": "asr.text.WordTokenizer", "words": ["one", "two", "three", "four"]}
    return tiny_recognizer(words, sample_rate=RATE)


def speech(seconds, seed=0, rate=RATE):
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    return 0.2 * rng.standard_normal(n) * np.sin(2 * np.pi * np.arange(n) / rate) ** 2


def run(recognizer, files, **options):
    """Return what came out, in the order it came: results and (path, message) of errors."""
    out = []
    transcribe_files(
        recognizer,
        files,
        on_result=out.append,
        on_error=lambda path, error: out.append((path, str(error))),
        **options,
    )
    return out


def write(folder, name, seconds=1.0, seed=0):
    sf.write(folder / name, speech(seconds, seed), RATE)
    return folder / name


def test_results_come_in_the_order_of_the_files_whatever_the_batches(tmp_path, recognizer):
    lengths = [1.3, 0.4, 1.9, 0.2, 1.1, 0.7, 1.6]
    files = [write(tmp_path, f"{i}.wav", seconds, i) for i, seconds in enumerate(lengths)]
    alone = [run(recognizer, [file])[0] for file in files]
    assert [result.path for result in alone] == files
    assert len({result.text for result in alone}) > 3
    for batch_seconds in (0.1, 2.0, 1000.0):
        together = run(recognizer, files, batch_seconds=batch_seconds)
        assert [result.path for result in together] == files
        assert [result.text for result in together] == [result.text for result in alone]
        for a, b in zip(alone, together, strict=True):
            assert [(s.start, s.end, s.tokens) for s in a.segments] == [
                (s.start, s.end, s.tokens) for s in b.segments
            ]
            assert [s.avg_logprob for s in a.segments] == pytest.approx(
                [s.avg_logprob for s in b.segments], abs=1e-4
            )


def test_batches_hold_no_more_than_asked_for_padding_included(tmp_path, recognizer, monkeypatch):
    lengths = [1.0, 0.5, 0.5, 0.5, 1.5, 0.5]
    files = [write(tmp_path, f"{i}.wav", seconds) for i, seconds in enumerate(lengths)]
    sizes = []
    real = recognizer.recognize_audio

    def watch(waveforms):
        sizes.append([len(w) / RATE for w in waveforms])
        return real(waveforms)

    monkeypatch.setattr(recognizer, "recognize_audio", watch)
    run(recognizer, files, batch_seconds=2.0)
    # Read ahead for one batch at first, then for two.
    assert sizes == [[0.5, 0.5], [1.0], [0.5, 0.5], [1.5]]


def test_broken_files_do_not_stop_the_others(tmp_path, recognizer):
    good = [write(tmp_path, f"good{i}.wav", 0.5 + 0.1 * i, i) for i in range(5)]
    nan = speech(0.5)
    nan[100] = np.nan
    broken = []
    for i in range(20):
        path = tmp_path / f"broken{i}.wav"
        match i % 5:
            case 0:
                path.touch()
            case 1:
                path.write_text("not audio at all\n" * 50)
            case 2:
                sf.write(path, nan, RATE, subtype="FLOAT")
            case 3:
                path.write_bytes(write(tmp_path, "whole.wav").read_bytes()[:-100])
            case 4:
                pass
        broken.append(path)
    files = [*broken[:10], *good, *broken[10:]]
    out = run(recognizer, files)
    assert [item[0] if isinstance(item, tuple) else item.path for item in out] == files
    assert [item.text for item in out if not isinstance(item, tuple)] == [
        run(recognizer, [file])[0].text for file in good
    ]
    errors = dict(item for item in out if isinstance(item, tuple))
    assert list(errors) == broken
    assert all(message.startswith(f"{path}: ") and "\n" not in message for path, message in errors.items())


@pytest.mark.parametrize("error", [ConfigError("no such thing; do another"), torch.OutOfMemoryError("full")])
def test_a_batch_that_fails_is_tried_file_by_file(tmp_path, recognizer, monkeypatch, error):
    files = [write(tmp_path, f"{i}.wav", 0.5 + 0.1 * i) for i in range(4)]
    real = recognizer.recognize_audio

    def fail(waveforms):
        if any(len(w) == round(0.7 * RATE) for w in waveforms):
            raise error
        return real(waveforms)

    monkeypatch.setattr(recognizer, "recognize_audio", fail)
    out = run(recognizer, files)
    assert [isinstance(item, tuple) for item in out] == [False, False, True, False]
    assert out[2][1].startswith(f"{files[2]}: ")


def test_windows_longer_than_training_are_noted(tmp_path, recognizer):
    path = write(tmp_path, "a.wav", 5.0)
    (result,) = run(recognizer, [path], options=WindowOptions.for_model(2.0, vad="none"))
    assert result.notes == ()
    long = WindowOptions(vad="auto", max_speech_duration_s=8.0)
    (result,) = run(recognizer, [path], options=long)
    assert result.notes == (
        "5 s in one piece, the model was trained on up to 2 s; accuracy may suffer; "
        "lower --max-speech-duration-s",
    )
    (result,) = run(recognizer, [path])
    assert result.notes == ()


def test_samples_are_transcribed_like_the_file_that_holds_them(tmp_path, recognizer):
    samples = speech(5.0).astype(np.float32)
    sf.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    options = WindowOptions.for_model(2.0, vad="energy")
    from_file = transcribe(recognizer, tmp_path / "a.wav", options=options)
    from_samples = transcribe(recognizer, samples, options=options)
    assert from_file.words == from_samples.words
    assert len(from_file.words) > 3
    assert from_file.text == " ".join(word.text for word in from_file.words)
    assert from_file.duration == from_samples.duration == 5.0
    # Two channels at another rate.
    stereo = np.repeat(np.stack([samples, samples], axis=1), 2, axis=0)
    assert len(transcribe(recognizer, stereo, 2 * RATE, options=options).words) > 0


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        (np.zeros(0), "the samples: there are none"),
        (np.zeros(100, np.int16), r"the samples: int16 of shape \(100,\); give floating-point samples"),
        (np.zeros((1, 2, 3)), "the samples: float64 of shape"),
        (np.full(16000, np.nan), r"the samples: sample 0 \(at 0.000 s\) is nan"),
        (np.zeros(100), "the samples: only 100 samples long"),
    ],
)
def test_samples_that_cannot_be_used_are_refused(recognizer, samples, problem):
    with pytest.raises(AudioError, match=problem):
        transcribe(recognizer, samples)


def test_progress_adds_up_to_the_duration_and_segments_come_in_order(tmp_path, recognizer):
    files = [write(tmp_path, f"{i}.wav", 1.0 + i, i) for i in range(5)]
    seconds, shown = [], []
    results = run(
        recognizer,
        files,
        batch_seconds=3.0,
        progress=seconds.append,
        on_segment=lambda path, segment: shown.append((path, segment)),
    )
    assert sum(seconds) == pytest.approx(sum(result.duration for result in results))
    assert shown == [(result.path, segment) for result in results for segment in result.segments]


def test_a_file_that_breaks_off_is_an_error_and_the_others_come_out(tmp_path, recognizer):
    good = write(tmp_path, "good.wav", 3.0)
    nan = speech(60.0)
    nan[50 * RATE] = np.nan
    sf.write(tmp_path / "late.wav", nan, RATE, subtype="FLOAT")
    out = run(recognizer, [tmp_path / "late.wav", good], batch_seconds=4.0)
    assert out[0] == (
        tmp_path / "late.wav",
        f"{tmp_path / 'late.wav'}: sample 800000 (at 50.000 s) is nan, no finite number; export the file "
        "again as 16-bit WAV",
    )
    assert out[1].text == run(recognizer, [good])[0].text


def test_reading_ahead_in_a_thread_gives_the_same_items_and_errors():
    assert list(_ahead(iter(range(1000)), size=3)) == list(range(1000))

    def broken():
        yield 1
        raise AudioError("broken")

    items = _ahead(broken(), size=3)
    assert next(items) == 1
    with pytest.raises(AudioError, match="broken"):
        next(items)
    endless = _ahead(iter(int, 1), size=3)
    assert next(endless) == 0
    endless.close()


def test_clips_are_recognised_each_on_its_own(tmp_path, recognizer):
    samples = speech(3.0)
    sf.write(tmp_path / "all.wav", samples, RATE)
    sf.write(tmp_path / "first.wav", samples[: RATE // 2], RATE)
    sf.write(tmp_path / "last.wav", samples[2 * RATE :], RATE)
    (whole,) = run(recognizer, [tmp_path / "all.wav"], clips=((0.0, 0.5), (2.0, None)))
    first, last = run(recognizer, [tmp_path / "first.wav", tmp_path / "last.wav"])
    assert whole.text == f"{first.text} {last.text}"
    words = [word for segment in whole.segments for word in segment.words]
    alone = [word for result in (first, last) for segment in result.segments for word in segment.words]
    assert [w.text for w in words] == [w.text for w in alone]
    shift = [0.0] * sum(len(s.words) for s in first.segments) + [2.0] * sum(
        len(s.words) for s in last.segments
    )
    assert [w.start for w in words] == pytest.approx([w.start + s for w, s in zip(alone, shift, strict=True)])


def test_a_clip_beyond_the_end_is_an_error(tmp_path, recognizer):
    path = write(tmp_path, "a.wav")
    ((_, message),) = run(recognizer, [path], clips=((0.0, 0.5), (7.0, 8.0)))
    assert message == f"{path}: offset 7 s is beyond its end at 1.000 s; correct the offset"
