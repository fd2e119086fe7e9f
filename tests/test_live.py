"""Live recognition: the same words however the samples come, and those of the whole recording."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

import asr
import asr.live
from asr import audio
from asr.data.manifest import read_manifest
from asr.decoding.beam import BeamDecoder
from asr.errors import AudioError, ConfigError
from asr.live import LiveTranscriber, LiveUpdate
from asr.recognizer import Recognizer

RATE = 8000
LETTERS = {"_target_": "asr.text.CharacterTokenizer", "characters": ["a", "b", "c", "d"]}
ONE_DIRECTION = {"bidirectional": False}
ENCODERS = {
    "one direction": ONE_DIRECTION,
    "look-ahead": {"bidirectional": False, "lookahead": 5},
    "pyramid": {"bidirectional": False, "num_layers": 2, "reductions": [2]},
    "chunks": {"bidirectional": True, "chunk": 8, "right_context": 4},
}


def make(encoder=ONE_DIRECTION, normalize="none", **features):
    """Return a recogniser with random weights, sharp enough to say words."""
    torch.manual_seed(3)
    conv = {"channels": 16, "kernel_sizes": [5], "strides": [2]}
    recognizer = Recognizer.from_config(
        {
            "features": {
                "_target_": "asr.features.FrontEnd",
                "extractor": {"_target_": "asr.features.LogMel", "sample_rate": RATE, "n_mels": 20},
                "normalize": normalize,
                **features,
            },
            "model": {
                "subsampling": {"_target_": "asr.models.subsampling.ConvSubsampling", **conv},
                "encoder": {
                    "_target_": "asr.models.encoder.RecurrentEncoder",
                    "hidden_size": 16,
                    "num_layers": 1,
                    **encoder,
                },
            },
            "tokenizer": LETTERS,
            "text": {"_target_": "asr.text.Normalizer"},
            "decoder": {"_target_": "asr.decoding.greedy.GreedyDecoder"},
        }
    )
    recognizer.model.head.weight.data *= 20
    return recognizer.eval()


def voice(seconds, seed=0):
    """Tones in noise, another one every moment: a random model says something else all the time."""
    rng = np.random.default_rng(seed)
    parts = []
    while sum(map(len, parts)) < seconds * RATE:
        n = int(rng.uniform(0.05, 0.4) * RATE)
        tone = np.sin(2 * np.pi * rng.uniform(100, 3000) * np.arange(n) / RATE)
        parts.append(rng.uniform(0, 0.4) * tone + 0.02 * rng.standard_normal(n))
    return np.concatenate(parts)[: int(seconds * RATE)].astype(np.float32)


def run(recognizer, samples, size=None, sample_rate=None):
    """Return all updates of a stream that is cut into pieces of `size` samples."""
    live = LiveTranscriber(recognizer, sample_rate)
    size = size or max(len(samples), 1)
    updates = [live.push(samples[i : i + size]) for i in range(0, len(samples), size)]
    return [*updates, live.finish()]


@pytest.fixture
def all_is_speech(monkeypatch):
    """Let windows hear everything: tones are no speech to a good detector."""
    monkeypatch.setattr(asr.live, "best_vad", lambda: "none")


def words_of(updates):
    return [word for update in updates for word in update.final]


@pytest.fixture
def no_pauses(monkeypatch):
    """Keep words open until a space ends them: random weights write letters across silence."""
    monkeypatch.setattr(asr.live, "QUIET_SECONDS", math.inf)
    monkeypatch.setattr("asr.decoding.streaming.SETTLE_SECONDS", 1e6)


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("deltas", [0, 2])
def test_words_of_a_model_that_streams_are_those_of_the_whole_recording(no_pauses, encoder, deltas):
    recognizer = make(encoder, deltas=deltas)
    samples = voice(5)
    whole = recognizer.recognize_audio([samples])[0].words
    words = words_of(run(recognizer, samples, 1600))
    assert words
    assert [(w.text, round(w.start, 3), round(w.end, 3)) for w in words] == [
        (w.text, round(w.start, 3), round(w.end, 3)) for w in whole
    ]


@pytest.mark.parametrize("encoder", [ONE_DIRECTION, {"bidirectional": True}], ids=["streams", "windows"])
@pytest.mark.parametrize("rate", [RATE, 11025])
def test_the_words_do_not_depend_on_how_the_samples_are_cut(all_is_speech, encoder, rate):
    recognizer = make(encoder)
    samples = voice(2)
    expected = words_of(run(recognizer, samples, None, rate))
    assert expected
    for size in (1, 7, 333, 8000) if rate == RATE else (7, 8000):
        assert words_of(run(recognizer, samples, size, rate)) == expected


def test_a_stream_of_another_rate_is_resampled():
    recognizer = make()
    samples = voice(4)
    live, twice = LiveTranscriber(recognizer), LiveTranscriber(recognizer, 2 * RATE)
    assert twice.delay > live.delay
    twice.push(np.repeat(samples, 2))
    words = twice.finish().final
    assert words[-1].end <= 4.0


@pytest.mark.parametrize("most", [84, 12])
def test_segments_have_all_final_words_and_never_break_within_words_given_out_before(monkeypatch, most):
    monkeypatch.setattr(asr.live, "MAX_SEGMENT_CHARACTERS", most)
    recognizer = make()
    updates = run(recognizer, voice(6), 800)
    given = ended = 0
    for update in updates:
        assert ended + sum(len(s.words) for s in update.segments) >= given or not update.segments
        given += len(update.final)
        ended += sum(len(s.words) for s in update.segments)
    words = words_of(updates)
    segments = [segment for update in updates for segment in update.segments]
    assert [word for segment in segments for word in segment.words] == words
    assert all(a.end <= b.start for a, b in pairwise(segments))


@pytest.mark.parametrize("encoder", [ONE_DIRECTION, {"bidirectional": True}], ids=["streams", "windows"])
def test_beam_search_gives_the_words_of_a_segment_at_its_end(all_is_speech, encoder):
    recognizer = make(encoder)
    recognizer.decoder = BeamDecoder(beam_size=5)
    samples = voice(3)
    updates = run(recognizer, samples, 800)
    whole = recognizer.recognize_audio([samples])[0]
    found = "".join(word.text for word in words_of(updates))
    assert found
    if encoder is ONE_DIRECTION:
        assert LiveTranscriber(recognizer).delay == math.inf
        assert found == whole.text.replace(" ", "")
        assert any(update.partial for update in updates)


@pytest.mark.parametrize(
    ("encoder", "normalize", "said"),
    [
        (ONE_DIRECTION, "none", "the model streams; words are final within 0.7 s"),
        ({"bidirectional": True}, "none", "the model is bidirectional: it runs in windows, words are final"),
        (ONE_DIRECTION, "utterance", "features are normalised over whole utterances: it runs in windows"),
    ],
)
def test_says_how_the_model_is_run_and_with_what_delay(encoder, normalize, said):
    live = LiveTranscriber(make(encoder, normalize))
    assert said in live.description
    assert live.streams == ("windows" not in said)


def test_a_look_ahead_and_chunks_add_to_the_delay():
    def delay(encoder):
        return LiveTranscriber(make(encoder)).delay

    assert delay(ENCODERS["look-ahead"]) - delay(ONE_DIRECTION) == pytest.approx(5 * 0.02)
    assert delay(ENCODERS["chunks"]) - delay(ONE_DIRECTION) == pytest.approx((8 + 4) * 0.02)


@pytest.mark.parametrize("encoder", [ONE_DIRECTION, {"bidirectional": True}], ids=["streams", "windows"])
@pytest.mark.parametrize("num_samples", [0, 1, 799])
def test_next_to_nothing_is_no_words(encoder, num_samples):
    updates = run(make(encoder), np.zeros(num_samples, np.float32))
    assert words_of(updates) == []
    assert updates[-1].partial == ""


def test_a_bidirectional_model_is_not_asked_about_silence():
    recognizer = make({"bidirectional": True})
    recognizer.recognize_audio = None
    assert words_of(run(recognizer, np.zeros(2 * RATE, np.float32), 800)) == []


@pytest.mark.parametrize(
    ("encoder", "beam"),
    [
        (ONE_DIRECTION, False),
        (ENCODERS["chunks"], False),
        (ONE_DIRECTION, True),
        ({"bidirectional": True}, False),
    ],
)
def test_what_it_keeps_does_not_grow(monkeypatch, all_is_speech, encoder, beam):
    monkeypatch.setattr(asr.live, "MAX_SEGMENT_SECONDS", 1.0)
    monkeypatch.setattr("asr.decoding.streaming.LONGEST_WORD_SECONDS", 0.5)
    monkeypatch.setattr(asr.live, "_WINDOW_SECONDS", 3.0)
    monkeypatch.setattr(asr.live, "LEFT_SECONDS", 1.0)
    recognizer = make(encoder)
    if beam:
        recognizer.decoder = BeamDecoder(beam_size=2)
    live = LiveTranscriber(recognizer)
    engine = live._engine

    def kept():
        if not live.streams:
            return len(engine._samples)
        stream = engine._model
        tensors = [stream.subsampling.frames, *stream.state.pending, *engine._heard, engine._features.samples]
        return sum(tensor.numel() for tensor in tensors if tensor is not None)

    most = []
    for seed in range(4):
        for part in np.split(voice(3, seed), 30):
            live.push(part)
            most.append(kept())
    for _ in range(20):
        live.push(np.zeros(RATE // 10, np.float32))
        most.append(kept())
    half = len(most) // 2
    assert max(most[half:]) <= 1.5 * max(most[:half])


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (np.nan, r"sample 803 \(at 0.100 s\) is nan; send finite samples"),
        (-np.inf, "is -inf; send finite samples"),
        (12000.0, "is 12000, far above full scale"),
    ],
)
def test_a_sample_that_is_no_audio_is_named_and_the_stream_goes_on(bad, said):
    recognizer = make()
    samples = voice(2)
    live = LiveTranscriber(recognizer)
    words = list(live.push(samples[:800]).final)
    broken = samples[800:1600].copy()
    broken[3] = bad
    with pytest.raises(AudioError, match=said):
        live.push(broken)
    words += [*live.push(samples[800:]).final, *live.finish().final]
    assert words == words_of(run(recognizer, samples))


@pytest.mark.parametrize("samples", [np.zeros((2, 5), np.float32), np.zeros(5, np.int16)])
def test_samples_of_another_shape_or_kind_are_refused(samples):
    with pytest.raises(ValueError, match="expected floats of shape"):
        LiveTranscriber(make()).push(samples)


@pytest.mark.parametrize("rate", [0, -8000, 10**9])
def test_a_rate_that_cannot_be_is_refused(rate):
    with pytest.raises(ConfigError, match=f"sample rate {rate} Hz"):
        LiveTranscriber(make(), rate)


def test_after_the_end_nothing_is_taken():
    live = LiveTranscriber(make())
    live.finish()
    assert live.finish() == LiveUpdate((), "")
    with pytest.raises(ValueError, match="finished"):
        live.push(np.zeros(1, np.float32))


@pytest.fixture(scope="module")
def digits(archive, tmp_path_factory):
    """A one-directional LSTM, trained for minutes on joined digits, and the manifest of its test set."""
    from asr.cli.main import main

    folder = archive("free-spoken-digit-dataset-1.0.10.tar.gz").parent
    output = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASR_ARCHIVES", str(folder))
        settings = [
            "model=lstm",
            "delay_penalty=0.05",
            "trainer.epochs=30",
            f"data.dir={output / 'data'}",
            f"output_dir={output / 'run'}",
        ]
        assert main(["run", "recipes/fsdd/joined.yaml", *settings]) == 0
    best = min(json.loads(line).get("dev_wer", 1.0) for line in (output / "run" / "metrics.jsonl").open())
    assert best <= 0.2, f"the training has not begun to learn: {best:.0%} WER on dev"
    return output / "run" / "model.asr", output / "data" / "official" / "joined" / "test.jsonl"


@pytest.mark.slow
def test_words_of_joined_digits_are_final_in_time_and_those_of_the_whole_recording(digits):
    """Latency by the clock of the audio: what was pushed when a word became final, less its true end.

    Letters are those of the whole recording; a pause may part them into words where the whole recording has
    no space.
    """
    path, manifest = digits
    model = asr.load(path, "cpu")
    latencies, parted = [], 0
    for utterance in read_manifest(manifest)[:60]:
        samples = audio.load(utterance.audio_filepath, sample_rate=RATE).samples
        live = model.stream()
        heard = []
        for start in range(0, len(samples), 160):
            piece = samples[start : start + 160]
            heard += [(word, (start + len(piece)) / RATE) for word in live.push(piece).final]
        heard += [(word, len(samples) / RATE) for word in live.finish().final]
        texts = [word.text for word, _ in heard]
        whole = model.transcribe(utterance.audio_filepath).text
        assert "".join(texts) == whole.replace(" ", "")
        parted += texts != whole.split()
        words = utterance.extra["words"]
        if len(heard) == len(words):  # else it is not known which is which
            latencies += [known - word["end"] for (_, known), word in zip(heard, words, strict=True)]
    assert parted <= 1
    assert len(latencies) > 200
    assert max(latencies) <= 1.0
