import math
import tarfile
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch
import torchaudio
import torchaudio.compliance.kaldi as kaldi
import yaml
from torch.nn.utils.rnn import pad_sequence

from asr.build import build
from asr.data.feature_files import read_features, read_scp
from asr.errors import ConfigError, DataError, ModelError
from asr.features import Fbank, FrontEnd, LogMel, Mfcc, SphinxMfcc

CONF = Path(__file__).parents[1] / "conf" / "features"
EXTRACTORS = [LogMel, Fbank, Mfcc, SphinxMfcc]
LENGTHS = [5000, 1, 400, 399, 8000, 560, 2345]


def small(extractor_class):
    """Return the extractor at 8 kHz, with a window that suits it."""
    if extractor_class is SphinxMfcc:
        return SphinxMfcc(sample_rate=8000, n_mels=31, f_min=200.0, f_max=3500.0, n_fft=256)
    return extractor_class(sample_rate=8000, n_mels=23)


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(0)
    waveforms = [0.1 * torch.randn(n, generator=generator) for n in LENGTHS]
    return pad_sequence(waveforms, batch_first=True), torch.tensor(LENGTHS)


@pytest.fixture(scope="module")
def an4_sample(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("an4")
    with tarfile.open(archive("an4_wav_sample.tar.gz")) as tar:
        tar.extractall(folder, filter="data")
    return folder / "an4_wav_sample"


def read_wav(path):
    samples, sample_rate = soundfile.read(path, dtype="float32")
    assert sample_rate == 16000
    return torch.from_numpy(samples)


@pytest.mark.parametrize("extractor_class", EXTRACTORS)
@pytest.mark.parametrize(("stack", "stack_stride"), [(1, 1), (3, 3), (8, 3)])
def test_num_frames_counts_what_forward_returns(extractor_class, stack, stack_stride):
    front_end = FrontEnd(small(extractor_class), stack=stack, stack_stride=stack_stride, normalize="none")
    for n in [*range(1, 60, 13), *range(195, 210), *range(270, 295), *range(300, 1200, 37)]:
        frames, lengths = front_end(torch.ones(1, n), torch.tensor([n]))
        assert lengths.dtype == torch.int64
        assert frames.shape == (1, front_end.num_frames(n), front_end.output_size)
        assert lengths.tolist() == [front_end.num_frames(n)]


@pytest.mark.parametrize(
    ("extractor", "num_samples", "num_frames"),
    [
        (LogMel(), 1, 1),
        (LogMel(), 400, 1),
        (LogMel(), 559, 1),
        (LogMel(), 560, 2),
        (LogMel(), 16000, 98),
        (SphinxMfcc(), 409, 1),
        (SphinxMfcc(), 410, 2),
        (SphinxMfcc(), 16000, 99),
    ],
)
def test_frame_counts(extractor, num_samples, num_frames):
    assert extractor.num_frames(num_samples) == num_frames


@pytest.mark.parametrize("extractor_class", EXTRACTORS)
@pytest.mark.parametrize(
    "options",
    [
        {"normalize": "corpus"},
        {"normalize": "level", "deltas": 1},
        {"deltas": 2},
        {"deltas": 1, "stack": 8, "stack_stride": 3},
    ],
    ids=str,
)
def test_frames_do_not_depend_on_the_batch(extractor_class, options, batch):
    waveforms, lengths = batch
    front_end = FrontEnd(extractor_class(), **options)
    if front_end.normalize == "corpus":
        front_end.fit([batch])
    frames, frame_lengths = front_end(waveforms, lengths)
    beyond = torch.arange(waveforms.size(1)) >= lengths[:, None]
    noisy, _ = front_end(waveforms + beyond * torch.randn(waveforms.shape), lengths)
    torch.testing.assert_close(noisy, frames, atol=1e-5, rtol=0)
    for i, n in enumerate(LENGTHS):
        alone, alone_length = front_end(waveforms[i : i + 1, :n], lengths[i : i + 1])
        assert alone_length == frame_lengths[i] == front_end.num_frames(n)
        torch.testing.assert_close(frames[i, :alone_length], alone[0], atol=1e-5, rtol=0)
        assert not frames[i, alone_length:].any()


@pytest.mark.parametrize(
    "options", [{"deltas": 2, "stack": 3, "stack_stride": 2}, {"normalize": "none"}], ids=str
)
def test_precomputed_frames_do_not_depend_on_the_batch(options):
    front_end = FrontEnd(SphinxMfcc(), **options)
    lengths = torch.tensor([9, 1, 4, 7])
    features = torch.randn(4, 12, 13)  # what lies beyond the lengths must not matter
    frames, frame_lengths = front_end(features, lengths)
    for i, n in enumerate(lengths):
        alone, alone_length = front_end(features[i : i + 1, :n], lengths[i : i + 1])
        assert alone_length == frame_lengths[i]
        torch.testing.assert_close(frames[i, :alone_length], alone[0], atol=1e-5, rtol=0)
        assert not frames[i, alone_length:].any()


@pytest.mark.parametrize(
    ("extractor", "reference"),
    [
        (Fbank(), lambda x: kaldi.fbank(x, num_mel_bins=80)),
        (Fbank(n_mels=40, f_max=7600.0), lambda x: kaldi.fbank(x, num_mel_bins=40, high_freq=7600.0)),
        (
            Fbank(sample_rate=8000, n_mels=40, window_ms=32.0),
            lambda x: kaldi.fbank(x, num_mel_bins=40, sample_frequency=8000.0, frame_length=32.0),
        ),
        (Mfcc(), kaldi.mfcc),
        (
            Mfcc(sample_rate=11025, n_mels=40, n_cepstra=40, lifter=0.0),
            lambda x: kaldi.mfcc(
                x, num_mel_bins=40, num_ceps=40, sample_frequency=11025.0, cepstral_lifter=0.0
            ),
        ),
    ],
)
def test_kaldi_extractors_equal_torchaudio_compliance(extractor, reference, batch):
    waveforms, _ = batch
    frames = extractor(waveforms)
    for i, n in enumerate(LENGTHS):
        if n >= extractor.window_length:
            expected = reference(waveforms[i : i + 1, :n] * 32768)
            assert len(expected) == extractor.num_frames(n)
            torch.testing.assert_close(frames[i, : len(expected)], expected, atol=1e-4, rtol=0)


def test_mfcc_equals_kaldi_archive_up_to_its_dither(an4_sample):
    index = read_scp(an4_sample / "kaldi_an4" / "feats.scp")
    for name, wav in [("fcaw-an409-b", "an409-fcaw-b"), ("fjlp-an416-b", "an416-fjlp-b")]:
        waveform = read_wav(an4_sample / "test" / "an4" / "wav" / f"{wav}.wav")
        difference = np.abs(Mfcc()(waveform[None])[0].numpy() - read_features(index[name]))
        assert difference[:, 0].mean() < 0.1
        assert difference.mean() < 0.5


@pytest.mark.parametrize(
    ("extractor", "reference"),
    [
        (
            LogMel(n_fft=400, mel_scale="slaney", f_min=0.0),
            torchaudio.transforms.MelSpectrogram(
                n_fft=400, hop_length=160, n_mels=80, center=False, norm="slaney", mel_scale="slaney"
            ),
        ),
        # torch.stft centres the window of 400 in its 512 points: 56 more samples at each end.
        (
            LogMel(),
            torchaudio.transforms.MelSpectrogram(
                n_fft=512, win_length=400, hop_length=160, n_mels=80, center=False, f_min=20.0, pad=56
            ),
        ),
    ],
)
def test_logmel_equals_torchaudio_mel_spectrogram(extractor, reference):
    waveforms = 0.1 * torch.randn(2, 5000)
    expected = reference(waveforms).clamp(min=1e-10).log().transpose(1, 2)
    torch.testing.assert_close(extractor(waveforms), expected, atol=1e-4, rtol=0)


def test_sphinx_mfcc_reproduces_the_an4_archive(archive, an4_sample):
    """The .mfc files were made by CMU Sphinx from the recordings of which 40 are in the sample."""
    with tarfile.open(archive("an4_feat.tar.gz")) as tar:
        names = {f"{wav.stem}.mfc": wav for wav in an4_sample.glob("t*/an4/wav/*.wav")}
        members = [member for member in tar.getmembers() if Path(member.name).name in names]
        tar.extractall(an4_sample, members=members, filter="data")
    assert len(members) == 40
    extractor = SphinxMfcc()
    for member in members:
        frames = extractor(read_wav(names[Path(member.name).name])[None])[0]
        expected = torch.from_numpy(read_features(str(an4_sample / member.name)))
        torch.testing.assert_close(frames, expected, atol=1e-4, rtol=0)


def test_deltas_equal_torchaudio():
    features = torch.randn(1, 20, 13)
    frames, _ = FrontEnd(Mfcc(), deltas=2, normalize="none")(features, torch.tensor([20]))
    static, first, second = frames.split(13, dim=2)
    torch.testing.assert_close(static, features)
    for lower, higher in [(static, first), (first, second)]:
        expected = torchaudio.functional.compute_deltas(lower.transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(higher, expected)


def test_stacking_joins_frames_and_repeats_the_last():
    front_end = FrontEnd(Mfcc(), stack=3, stack_stride=2, normalize="none")
    features = torch.arange(6.0)[None, :, None].expand(2, 6, 13)
    frames, lengths = front_end(features, torch.tensor([6, 2]))
    assert lengths.tolist() == [3, 1]
    assert frames[0, :, ::13].tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 5]]
    assert frames[1, :, ::13].tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 0]]


def test_attributes():
    front_end = FrontEnd(LogMel(sample_rate=8000, n_mels=40), deltas=1, stack=3, stack_stride=2)
    assert front_end.sample_rate == 8000
    assert front_end.output_size == 40 * 2 * 3
    assert front_end.frame_shift == pytest.approx(0.02)


def test_utterance_normalisation_gives_mean_0_and_variance_1(batch):
    frames, lengths = FrontEnd(Fbank(), normalize="utterance")(*batch)
    own = frames[0, : lengths[0]]
    torch.testing.assert_close(own.mean(0), torch.zeros(80), atol=1e-5, rtol=0)
    torch.testing.assert_close(own.var(0, correction=0), torch.ones(80), atol=1e-4, rtol=0)


def test_level_normalisation_keeps_the_shape_of_the_spectrum(batch):
    waveforms, lengths = batch
    extractor = LogMel()
    plain, frame_lengths = FrontEnd(extractor, deltas=1, normalize="none")(waveforms, lengths)
    frames, _ = FrontEnd(extractor, deltas=1, normalize="level")(waveforms, lengths)
    louder, _ = FrontEnd(extractor, deltas=1, normalize="level")(3 * waveforms, lengths)
    torch.testing.assert_close(louder, frames, atol=1e-4, rtol=0)
    own, expected = frames[0, : frame_lengths[0]], plain[0, : frame_lengths[0]]
    for ours, theirs in zip(own.split(80, dim=1), expected.split(80, dim=1), strict=True):
        torch.testing.assert_close(
            ours, (theirs - theirs.mean()) / theirs.std(correction=0), atol=1e-4, rtol=0
        )


@pytest.mark.parametrize("normalize", ["none", "level"])
def test_the_dynamic_range_is_librosas_top_db(batch, normalize):
    waveforms, lengths = batch
    extractor = LogMel()
    own = waveforms[:1, : lengths[0]]
    decibels = librosa.power_to_db((extractor(own)[0].exp()).numpy(), amin=1e-10, top_db=30)
    expected = torch.from_numpy(decibels) * math.log(10) / 10
    if normalize == "level":
        expected = (expected - expected.mean()) / expected.std(correction=0)
    front_end = FrontEnd(extractor, normalize=normalize, dynamic_range_db=30)
    frames, frame_lengths = front_end(waveforms, lengths)  # beside louder ones
    torch.testing.assert_close(frames[0, : frame_lengths[0]], expected.float(), atol=1e-4, rtol=0)


def test_the_dynamic_range_comes_after_augmentation(batch):
    front_end = FrontEnd(LogMel(), normalize="none", dynamic_range_db=20)
    frames, lengths = front_end(*batch, augment=lambda frames, lengths: frames * 3)
    for row, length in zip(frames, lengths, strict=True):
        assert row[:length].max() - row[:length].min() <= 2 * math.log(10) + 1e-4


@pytest.mark.parametrize("extractor_class", EXTRACTORS)
@pytest.mark.parametrize("value", [0.0, 0.5, -1.0])
def test_constant_audio_gives_finite_frames(extractor_class, value):
    frames, _ = FrontEnd(extractor_class(), deltas=2)(torch.full((2, 4000), value), torch.tensor([4000, 10]))
    assert frames.isfinite().all()
    if value == 0:
        assert not frames.any()


def test_corpus_normalisation_uses_the_statistics_of_all_frames(batch):
    waveforms, lengths = batch
    plain, frame_lengths = FrontEnd(Fbank(), deltas=1, normalize="none")(waveforms, lengths)
    own = torch.cat([x[:n] for x, n in zip(plain, frame_lengths, strict=True)]).double()
    front_end = FrontEnd(Fbank(), deltas=1, normalize="corpus")
    with pytest.raises(ModelError, match="no statistics"):
        front_end(waveforms, lengths)
    front_end.fit((waveforms[i : i + 2], lengths[i : i + 2]) for i in range(0, len(lengths), 2))
    torch.testing.assert_close(front_end.mean.double(), own.mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(front_end.std.double(), own.std(0, correction=0), atol=1e-5, rtol=1e-5)

    restored = FrontEnd(Fbank(), deltas=1, normalize="corpus")
    assert set(front_end.state_dict()) == {"mean", "std"}
    restored.load_state_dict(front_end.state_dict())
    frames, _ = restored(waveforms, lengths)
    expected = (plain[0] - own.mean(0)) / own.std(0, correction=0)
    torch.testing.assert_close(frames[0, : frame_lengths[0]], expected[: frame_lengths[0]].float())


def test_corpus_normalisation_of_constant_training_data_is_finite():
    front_end = FrontEnd(LogMel(), normalize="corpus")
    front_end.fit([(torch.zeros(1, 4000), torch.tensor([4000]))])
    frames, _ = front_end(torch.zeros(1, 4000), torch.tensor([4000]))
    assert frames.abs().max() < 0.5


def test_fit_needs_frames_and_corpus_normalisation():
    with pytest.raises(DataError, match="no training frames"):
        FrontEnd(LogMel(), normalize="corpus").fit([])
    with pytest.raises(ConfigError, match="use corpus"):
        FrontEnd(LogMel()).fit([])


def test_autocast_does_not_change_the_frames(batch):
    front_end = FrontEnd(Mfcc(), deltas=2)
    expected, _ = front_end(*batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        frames, _ = front_end(*batch)
    assert frames.dtype == torch.float32
    torch.testing.assert_close(frames, expected, atol=0, rtol=0)


def test_precomputed_frames_of_another_size_are_named():
    with pytest.raises(DataError, match="40 values a frame, SphinxMfcc gives 13"):
        FrontEnd(SphinxMfcc())(torch.zeros(1, 5, 40), torch.tensor([5]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FrontEnd(LogMel(), deltas=3), "deltas: 3"),
        (lambda: FrontEnd(LogMel(), stack=2, stack_stride=3), "stack_stride: 3"),
        (lambda: FrontEnd(LogMel(), stack=0), "stack: 0"),
        (lambda: FrontEnd(LogMel(), normalize="speaker"), "normalize: 'speaker'"),
        (lambda: FrontEnd(LogMel(), dynamic_range_db=0.0), "dynamic_range_db: 0.0"),
        (lambda: FrontEnd(Mfcc(), dynamic_range_db=40.0), "dynamic_range_db: 40.0 with Mfcc"),
        (lambda: LogMel(mel_scale="bark"), "mel_scale: 'bark'"),
        (lambda: LogMel(hop_ms=0.0), "hop_ms: 0.0"),
        (lambda: LogMel(n_fft=256), "n_fft: 256"),
        (lambda: LogMel(n_mels=0), "n_mels: 0"),
        (lambda: Fbank(sample_rate=8000, f_max=7600.0), "f_max: 7600.0"),
        (lambda: Fbank(n_mels=3), "n_mels: 3"),
        (lambda: Fbank(n_mels=400), "n_mels: 400"),
        (lambda: Mfcc(n_cepstra=24), "n_cepstra: 24"),
        (lambda: SphinxMfcc(n_mels=100), "n_mels: 100"),
        (lambda: SphinxMfcc(sample_rate=8000), "f_max: 6800.0"),
    ],
)
@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "output_size"), [("logmel", 80), ("fbank", 80), ("mfcc", 39), ("sphinx_mfcc", 39)]
)
def test_configuration_group_builds(name, output_size):
    config = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert build(config).output_size == output_size


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("extractor_class", EXTRACTORS)
def test_cuda_equals_cpu(extractor_class, batch):
    front_end = FrontEnd(extractor_class(), deltas=2, stack=3, stack_stride=2)
    expected, _ = front_end(*batch)
    frames, _ = front_end.cuda()(*(x.cuda() for x in batch))
    torch.testing.assert_close(frames.cpu(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("extractor_class", EXTRACTORS)
@pytest.mark.parametrize(
    ("deltas", "stack", "stack_stride"), [(0, 1, 1), (1, 3, 3), (2, 1, 1), (2, 4, 2), (1, 3, 1)]
)
@pytest.mark.parametrize("size", [1, 77, 400, None])
def test_a_stream_gives_the_frames_of_the_whole_waveform(extractor_class, deltas, stack, stack_stride, size):
    front_end = FrontEnd(
        small(extractor_class), deltas=deltas, stack=stack, stack_stride=stack_stride, normalize="corpus"
    )
    front_end.mean.fill_(0.3)
    front_end.std.fill_(2.0)
    generator = torch.Generator().manual_seed(0)
    for n in (1, 199, 206, 281, 1000) if size == 1 else (1, 150, 410, 3000, 8191):
        waveforms = 0.1 * torch.randn(2, n, generator=generator)
        stream = front_end.stream()
        pieces = [stream.push(piece) for piece in waveforms.split(size or n, dim=1)]
        pieces.append(stream.push(waveforms[:, :0], final=True))
        whole, _ = front_end(waveforms, torch.full((2,), n))
        torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("extractor_class", EXTRACTORS)
def test_a_stream_gives_a_frame_as_soon_as_it_is_settled_and_keeps_few_samples(extractor_class):
    front_end = FrontEnd(small(extractor_class), deltas=2, normalize="none")
    window, hop = front_end.extractor.window_length, front_end.extractor.hop_length
    stream = front_end.stream()
    # Second deltas need four frames to the right.
    assert stream.push(torch.ones(1, window + 4 * hop - 1)).shape[1] == 0
    assert stream.push(torch.ones(1, 1)).shape[1] == 1
    for _ in range(20):
        stream.push(torch.ones(1, 1000))
        assert stream.samples.shape[1] <= window + 12 * hop


def test_a_stream_without_a_sample_has_no_frames():
    front_end = FrontEnd(LogMel(), normalize="none")
    assert front_end.stream().push(torch.zeros(1, 0), final=True).shape == (1, 0, 80)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "normalize: utterance"),
        ({"normalize": "level"}, "normalize: level"),
        ({"normalize": "none", "dynamic_range_db": 35.0}, "dynamic_range_db: 35.0"),
    ],
)
def test_features_that_depend_on_the_whole_utterance_cannot_stream(options, named):
    with pytest.raises(ConfigError, match=rf"{named} needs the whole utterance.*features\.normalize=corpus"):
        FrontEnd(LogMel(), **options).stream()


@pytest.mark.parametrize(("scale", "htk"), [("slaney", False), ("htk", True)])
def test_log_mel_is_that_of_librosa(scale, htk):
    librosa = pytest.importorskip("librosa")
    samples = torch.randn(16000, generator=torch.Generator().manual_seed(1)) * 0.1
    frames = LogMel(sample_rate=16000, n_mels=40, window_ms=32.0, f_min=0.0, mel_scale=scale)(samples[None])[
        0
    ]
    mel = librosa.feature.melspectrogram(
        y=samples.numpy(),
        sr=16000,
        n_fft=512,
        hop_length=160,
        center=False,
        n_mels=40,
        fmin=0.0,
        htk=htk,
        norm=None if htk else "slaney",
    )
    theirs = torch.from_numpy(np.log(np.maximum(mel, 1e-10))).T
    assert torch.allclose(frames[: len(theirs)], theirs, atol=1e-3)
