"""Vocal tract, time warp, coloration and noise on frames, log mel energies and cepstra alike."""

import numpy as np
import pytest
import torch
from scipy.fft import dct, idct

from asr.augment import Coloration, FrameNoise, TimeWarp, VocalTractPerturb, utterance_rng
from asr.augment.frames import warp_matrix
from asr.features import Fbank, FrontEnd, LogMel, Mfcc, SphinxMfcc

EXTRACTORS = {
    "logmel": LogMel(n_mels=80),
    "slaney": LogMel(n_mels=80, mel_scale="slaney"),
    "8 kHz": LogMel(sample_rate=8000, n_mels=40),
    "fbank": Fbank(),
    "mfcc": Mfcc(),
    "sphinx": SphinxMfcc(),
}
KINDS = [
    VocalTractPerturb(warp=[0.8, 1.25]),
    TimeWarp(probability=1.0),
    Coloration(probability=1.0),
    FrameNoise(probability=1.0),
]


def rngs(num, start=0):
    return [utterance_rng(0, 0, str(i)) for i in range(start, start + num)]


def jaitly_hinton(f, warp, formants, top):
    """The warp as given in "Vocal Tract Length Perturbation (VTLP) improves speech recognition"."""
    bend = formants * min(warp, 1)
    if f <= bend / warp:
        return f * warp
    return top - (top - bend) / (top - bend / warp) * (top - f)


@pytest.mark.parametrize("name", ["logmel", "slaney", "8 kHz", "fbank"])
def test_the_centers_are_where_the_filters_peak(name):
    """Filters of torchaudio; narrow ones are sampled coarsely, so those of many bins are looked at."""
    extractor = EXTRACTORS[name]
    hz = np.linspace(0, extractor.sample_rate / 2, len(extractor.filters))
    many = ((extractor.filters > 0).sum(0) > 6).nonzero()[:, 0]
    peaks = hz[extractor.filters.argmax(0)[many]]
    assert len(many) > 10
    np.testing.assert_allclose(extractor.centers[many], peaks, atol=hz[1])


@pytest.mark.parametrize("name", EXTRACTORS)
def test_a_warp_of_one_is_the_identity(name):
    matrix = warp_matrix(EXTRACTORS[name], torch.ones(2), 4800.0)
    torch.testing.assert_close(matrix, torch.eye(matrix.size(1)).expand(2, -1, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("warp", [0.8, 0.9, 1.1, 1.25])
@pytest.mark.parametrize("name", ["logmel", "slaney", "8 kHz", "fbank"])
def test_the_axis_is_warped_as_published(name, warp):
    """Energies equal to their filter's frequency come out as the frequency that the warp takes there."""
    extractor = EXTRACTORS[name]
    centers = extractor.centers.float()
    source = (centers @ warp_matrix(extractor, torch.tensor([warp]), 4800.0)[0]).tolist()
    formants = min(4800.0, 0.8 * extractor.f_max)
    for center, f in zip(centers.tolist(), source, strict=True):
        if centers[0] < f < centers[-1]:
            assert jaitly_hinton(f, warp, formants, extractor.f_max) == pytest.approx(center, rel=1e-3)


@pytest.mark.parametrize(("hz", "warp"), [(1000, 1.2), (1000, 0.85), (2200, 1.1), (2500, 0.9)])
@pytest.mark.parametrize("name", ["logmel", "8 kHz", "fbank"])
def test_a_tone_moves_to_the_warped_frequency(name, hz, warp):
    extractor = EXTRACTORS[name]
    t = torch.arange(extractor.sample_rate) / extractor.sample_rate
    frames = extractor(torch.sin(2 * np.pi * hz * t)[None])
    lengths = torch.tensor([frames.size(1)])
    warped = VocalTractPerturb(warp=[warp, warp])(frames, lengths, extractor, rngs(1))
    found = warped[0].mean(0).argmax()
    nearest = (extractor.centers - hz * warp).abs().argmin()
    assert abs(found - nearest) <= 1


@pytest.mark.parametrize("warp", [0.8, 0.93, 1.07, 1.25])
@pytest.mark.parametrize("lifter", [0.0, 22.0])
def test_warped_cepstra_are_those_of_the_warped_smooth_spectrum(warp, lifter):
    """Inverse cosine transform (scipy), interpolation (numpy), cosine transform (scipy)."""
    extractor = Mfcc(n_mels=40, n_cepstra=13, f_min=130, f_max=6800, lifter=lifter)
    cepstra = np.random.default_rng(0).standard_normal((5, 13))
    lifting = 1 + lifter / 2 * np.sin(np.pi * np.arange(13) / lifter) if lifter else np.ones(13)
    smooth = idct(np.pad(cepstra / lifting, ((0, 0), (0, 27))), norm="ortho")
    centers = extractor.centers.numpy()
    # The published warp inverted on a fine grid.
    grid = np.linspace(0, 6800, 100_001)
    image = np.array([jaitly_hinton(f, warp, 4800.0, 6800.0) for f in grid])
    source = np.interp(centers, image, grid)
    warped = np.array([np.interp(source, centers, frame) for frame in smooth])
    expected = dct(warped, norm="ortho")[:, :13] * lifting
    found = torch.tensor(cepstra).float() @ warp_matrix(extractor, torch.tensor([warp]), 4800.0)[0]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_cepstra_of_a_shifted_voice_come_near_those_that_are_warped(archive, tmp_path):
    """On speech: the reference is the transform of warped log mel energies in full resolution."""
    extractor = SphinxMfcc()
    log_mel = SphinxMfcc()
    log_mel.transform = None
    samples = torch.from_numpy(_some_speech(archive, tmp_path))
    energies, cepstra = log_mel(samples[None])[0], extractor(samples[None])
    spread = warp_matrix(log_mel, torch.tensor([1.15]), 4800.0)[0]
    expected = energies @ spread @ extractor.transform
    found = VocalTractPerturb([1.15, 1.15])(cepstra, torch.tensor([cepstra.size(1)]), extractor, rngs(1))[0]
    near, far = (found - expected).square().mean(), (cepstra[0] - expected).square().mean()
    assert near < 0.3 * far


def _some_speech(archive, folder):
    import tarfile

    from asr import audio

    with tarfile.open(archive("an4_wav_sample.tar.gz")) as tar:
        member = next(m for m in tar if m.name.endswith(".wav"))
        tar.extract(member, folder, filter="data")
    return audio.load(folder / member.name, sample_rate=16000).samples


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: type(k).__name__)
@pytest.mark.parametrize("name", ["logmel", "sphinx"])
def test_an_utterance_comes_out_alike_in_any_batch(kind, name):
    extractor = EXTRACTORS[name]
    frames = torch.randn(3, 90, extractor.output_size)
    lengths = torch.tensor([40, 90, 77])
    together = kind(frames, lengths, extractor, rngs(3))
    for b, length in enumerate(lengths.tolist()):
        alone = kind(frames[b : b + 1, :length], lengths[b : b + 1], extractor, rngs(1, start=b))
        torch.testing.assert_close(together[b, :length], alone[0], atol=1e-5, rtol=1e-5)
        assert not torch.equal(alone[0], frames[b, :length])


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: type(k).__name__)
def test_probability_zero_changes_nothing(kind):
    frames = torch.randn(2, 50, 80)
    kind = type(kind)(probability=0.0)
    assert torch.equal(kind(frames, torch.tensor([50, 30]), EXTRACTORS["logmel"], rngs(2)), frames)


def test_time_is_warped_within_the_tempo_and_the_ends_stay():
    num_frames, tempo = 400, 1.5
    frames = torch.arange(num_frames, dtype=torch.float32)[None, :, None].expand(30, -1, 2)
    warp = TimeWarp(tempo=tempo, frames_per_cut=60, probability=1.0)
    warped = warp(frames, torch.full((30,), num_frames), LogMel(), rngs(30))[:, :, 0]
    assert (warped[:, 0] == 0).all()
    assert (warped[:, -1] - (num_frames - 1)).abs().max() < 1e-3
    steps = warped.diff(dim=1)
    assert steps.min() >= 1 / tempo**2 - 1e-3
    assert steps.max() <= tempo**2 + 1e-3
    assert (warped - torch.arange(num_frames)).abs().max() > 10


def test_frame_noise_is_in_proportion_to_each_coefficient():
    frames = torch.randn(1, 4000, 3) * torch.tensor([1.0, 10.0, 0.1]) + 7
    noisy = FrameNoise(level=[0.2, 0.2], probability=1.0)(frames, torch.tensor([4000]), LogMel(), rngs(1))
    found = (noisy - frames)[0].std(0) / frames[0].std(0)
    torch.testing.assert_close(found, torch.full((3,), 0.2), atol=0.02, rtol=0)


@pytest.mark.parametrize("name", ["logmel", "sphinx"])
def test_coloration_is_a_filter_that_utterance_normalisation_takes_out(name):
    extractor = EXTRACTORS[name]
    frames, lengths = torch.randn(1, 60, extractor.output_size), torch.tensor([60])
    front_end = FrontEnd(extractor, normalize="utterance")
    colored = Coloration(gain_db=6, probability=1.0)(frames, lengths, extractor, rngs(1))
    difference = colored - frames
    assert difference.abs().max() > 0.05
    torch.testing.assert_close(difference, difference[:, :1].expand_as(difference), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        front_end(colored, lengths)[0], front_end(frames, lengths)[0], atol=1e-4, rtol=1e-4
    )


def test_coloration_has_its_size_in_decibels():
    """A cosine over all filters has half its amplitude's square for power: 2 x 3^2 = 18."""
    frames, lengths = torch.zeros(500, 1, 80), torch.ones(500, dtype=torch.int64)
    colored = Coloration(gain_db=3.0, num_cosines=4, probability=1.0)(
        frames, lengths, EXTRACTORS["logmel"], rngs(500)
    )
    decibels = colored * 10 / np.log(10)
    assert decibels.square().mean().item() == pytest.approx(18, rel=0.15)


def test_the_front_end_applies_it_before_deltas_and_normalisation():
    extractor = EXTRACTORS["sphinx"]
    front_end = FrontEnd(extractor, deltas=2)
    cepstra, lengths = torch.randn(2, 50, 13), torch.tensor([50, 31])

    def augment(frames, lengths):
        return frames @ warp_matrix(extractor, torch.tensor([0.9, 1.2]), 4800.0)

    found, _ = front_end(cepstra, lengths, augment)
    expected, _ = front_end(augment(cepstra, lengths), lengths)
    assert torch.equal(found, expected)
    assert not torch.allclose(found, front_end(cepstra, lengths)[0])


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (VocalTractPerturb, {"warp": [1.2, 0.8]}, "warp must be two numbers"),
        (VocalTractPerturb, {"formants_hz": 0}, "formants_hz must be positive"),
        (TimeWarp, {"tempo": 0.5}, "tempo must lie between 1 and 4"),
        (FrameNoise, {"level": [0, 11]}, "level must be two numbers"),
        (Coloration, {"num_cosines": 0}, "num_cosines 1 or more"),
    ],
)
def test_values_out_of_range_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)
