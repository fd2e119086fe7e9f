"""Exported graphs compute what PyTorch does, for every kind of model, whatever the batch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from asr.data.collate import pad
from asr.errors import ModelError
from asr.recognizer import Recognizer

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

CONF = Path(__file__).parents[2] / "conf"
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
TOLERANCE = 1e-4


def recognizer(model="blstm", features="logmel", front_end=None, sharpness=3.0, **encoder):
    """Make a recogniser of a configuration group, its sizes shrunk, its statistics not those of a start."""
    config = yaml.safe_load((CONF / "model" / f"{model}.yaml").read_text())
    config["encoder"] |= {"hidden_size": 24, "dropout": 0.0, **encoder}
    config["encoder"]["num_layers"] = min(3, config["encoder"]["num_layers"])
    if "projection" in config["encoder"]:
        config["encoder"]["projection"] = 20
    if "channels" in config["subsampling"]:
        config["subsampling"]["channels"] = [6, 8] if "vgg" in model else 8
    settings = yaml.safe_load((CONF / "features" / f"{features}.yaml").read_text())
    torch.manual_seed(0)
    made = Recognizer.from_config(
        {
            "features": settings | (front_end or {}),
            "model": config,
            "tokenizer": {"_target_": "asr.text.CharacterTokenizer", "characters": list("abcdefgh")},
            "text": {"_target_": "asr.text.Normalizer"},
            "decoder": {"_target_": "asr.decoding.greedy.GreedyDecoder"},
        }
    )
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    if made.features.normalize == "corpus":
        made.features.mean.fill_(-5.0)
        made.features.std.fill_(4.0)
    made.model.head.weight.data *= sharpness
    return made.eval()


def sounds(rate, count, seed):
    """Make tones in noise of 5 ms to 2 s, the first one shorter than a window."""
    random = np.random.default_rng(seed)
    lengths = [rate // 200, *random.integers(rate // 5, 2 * rate, count - 1)]
    return [
        (0.2 * np.sin(np.arange(n) * random.uniform(0.1, 1)) + 0.05 * random.standard_normal(n)).astype("f")
        for n in lengths
    ][-count:]


def largest_difference(made, forward):
    """Compare with PyTorch on batches of 1, 5 and 16 mixed lengths; lengths must be equal."""
    worst = 0.0
    for count in (1, 5, 16):
        waveforms = sounds(made.sample_rate, count, seed=count)
        batch, lengths = pad([torch.from_numpy(w) for w in waveforms])
        with torch.inference_mode():
            own, own_lengths = made.log_probs(batch, lengths)
            theirs, their_lengths = forward(batch, lengths)
        assert their_lengths.tolist() == own_lengths.tolist()
        for a, b, length in zip(own, theirs, own_lengths, strict=True):
            worst = max(worst, float((a[:length] - b[:length]).abs().max()))
    return worst


def run_onnx(made, path, **options):
    import onnxruntime

    from asr.export.write import export_onnx

    export_onnx(made, path, **options)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def forward(batch, lengths):
        outputs = session.run(None, {names[0]: batch.numpy(), names[1]: lengths.numpy()})
        return tuple(torch.from_numpy(output) for output in outputs)

    return forward


def run_program(made, path, **options):
    from asr.export.write import export_program, load_program

    export_program(made, path, **options)
    return load_program(path)[0]


WAYS = {"onnx": run_onnx, "pt2": run_program}


@pytest.fixture(scope="module")
def blstm(tmp_path_factory):
    """Return a recogniser, and what runs its two exported files; the ONNX file is `blstm.onnx`."""
    folder = tmp_path_factory.mktemp("exported")
    made = recognizer()
    return made, {way: run(made, folder / f"blstm.{way}") for way, run in WAYS.items()}, folder


@pytest.mark.parametrize("way", WAYS)
def test_a_blstm_computes_what_pytorch_does(way, blstm):
    made, forwards, _ = blstm
    assert largest_difference(made, forwards[way]) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", [m for m in MODELS if m not in ("blstm", "lcblstm")])
def test_every_model_computes_what_pytorch_does(model, way, tmp_path):
    made = recognizer(model, sharpness=1.0)
    assert largest_difference(made, WAYS[way](made, tmp_path / "model")) < TOLERANCE


@pytest.mark.slow
def test_an_encoder_in_chunks_is_a_program_but_no_onnx(tmp_path):
    made = recognizer("lcblstm")
    assert largest_difference(made, run_program(made, tmp_path / "model")) < TOLERANCE
    with pytest.raises(ModelError, match="use --format pt2"):
        run_onnx(made, tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "options",
    [
        {"cell": "lstm", "proj_size": 10},
        {"cell": "rnn_relu", "residual": True},
        {"cell": "gru", "directions": "sum", "norm": "batch"},
        {"cell": "ligru", "norm": "batch"},
        {"cell": "ligru", "norm": "none", "bidirectional": False},
    ],
    ids=str,
)
def test_every_option_of_an_encoder(options, way, tmp_path):
    # a ReLU network multiplies what float32 rounds off in the front end
    made = recognizer(sharpness=1.0, **options)
    assert largest_difference(made, WAYS[way](made, tmp_path / "model")) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("features", "options"),
    [
        ("fbank", {"normalize": "corpus"}),
        ("mfcc", {"deltas": 2, "normalize": "none"}),
        ("sphinx_mfcc", {"deltas": 1}),
        ("logmel", {"stack": 3, "stack_stride": 2}),
        ("logmel", {"normalize": "level", "dynamic_range_db": 35.0}),
    ],
    ids=str,
)
def test_every_front_end(features, options, way, tmp_path):
    made = recognizer(features=features, front_end=options)
    # Kaldi's front end keeps scores of the order of 1e-3 apart already between float32 and float64
    assert largest_difference(made, WAYS[way](made, tmp_path / "model")) < 5 * TOLERANCE


@pytest.mark.parametrize("features", ["logmel", "fbank", "mfcc", "sphinx_mfcc"])
def test_the_convolution_is_as_close_to_float64_as_the_fourier_transform(features):
    from asr.export.graph import ConvExtractor

    extractor = recognizer(features=features).features.extractor
    batch, _ = pad([torch.from_numpy(w) for w in sounds(extractor.sample_rate, 4, seed=0)])
    own = extractor(batch)
    exact = extractor.double()(batch.double())
    by_convolution = ConvExtractor(extractor.float())(batch)[:, : own.shape[1]]
    assert (by_convolution - exact).abs().max() <= 1.5 * (own - exact).abs().max()


@pytest.mark.slow
def test_int8_is_nearly_the_same_in_less_than_half_the_size(tmp_path):
    made = recognizer(hidden_size=128)
    exact, small = run_onnx(made, tmp_path / "a"), run_onnx(made, tmp_path / "b", int8=True)
    batch, lengths = pad([torch.from_numpy(w) for w in sounds(made.sample_rate, 4, seed=0)[1:]])
    difference = (exact(batch, lengths)[0] - small(batch, lengths)[0]).abs()
    assert 0 < difference.max() < 0.3
    assert (tmp_path / "b").stat().st_size < 0.6 * (tmp_path / "a").stat().st_size


@pytest.mark.slow
def test_int8_of_a_program_keeps_only_small_weights(tmp_path):
    made = recognizer(hidden_size=128)
    before = [p.clone() for p in made.parameters()]
    exact, small = run_program(made, tmp_path / "a"), run_program(made, tmp_path / "b", int8=True)
    batch, lengths = pad([torch.from_numpy(w) for w in sounds(made.sample_rate, 4, seed=0)[1:]])
    with torch.inference_mode():
        difference = (exact(batch, lengths)[0] - small(batch, lengths)[0]).abs()
    assert 0 < difference.max() < 0.3
    assert (tmp_path / "b").stat().st_size < 0.6 * (tmp_path / "a").stat().st_size
    assert all(torch.equal(a, b) for a, b in zip(before, made.parameters(), strict=True))


@pytest.mark.slow
def test_features_may_be_the_input(tmp_path):
    made = recognizer(features="mfcc")
    forward = run_onnx(made, tmp_path / "model", inputs="features")
    frames, lengths = torch.randn(3, 80, made.num_features), torch.tensor([80, 41, 1])
    with torch.inference_mode():
        own, own_lengths = made.log_probs(frames, lengths)
    theirs, _ = forward(frames, lengths)
    for a, b, length in zip(own, theirs, own_lengths, strict=True):
        torch.testing.assert_close(a[:length], b[:length], atol=TOLERANCE, rtol=0)


RUN_WITHOUT_TORCH = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchaudio", "librosa", "onnx", "soxr"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocker())
from asr.export.runner import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_runner_needs_no_torch_and_says_what_the_recogniser_says(blstm, tmp_path):
    import soundfile

    made, _, folder = blstm
    waveform = sounds(made.sample_rate, 3, seed=1)[2]
    soundfile.write(tmp_path / "a.wav", waveform, made.sample_rate, subtype="FLOAT")
    command = [sys.executable, "-c", RUN_WITHOUT_TORCH, folder / "blstm.onnx", tmp_path / "a.wav", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CONF.parent)
    assert done.returncode == 0, done.stderr
    (hypothesis,) = made.recognize_audio([waveform])
    line = json.loads(done.stdout)
    assert line["text"] == hypothesis.text != ""
    for word, expected in zip(line["words"], hypothesis.words, strict=True):
        assert (word["text"], word["start"], word["end"]) == (expected.text, expected.start, expected.end)
        assert word["confidence"] == pytest.approx(expected.confidence, abs=1e-4)


def test_the_runner_resamples_a_tone_to_itself():
    from asr.export.runner import resample

    def tone(rate):
        return np.sin(2 * np.pi * 440 * np.arange(rate * 3 // 2) / rate).astype("f")

    for rate in (8000, 44100, 22050):
        there = resample(tone(rate), rate, 16000)
        assert len(there) == 24000
        np.testing.assert_allclose(there[800:-800], tone(16000)[800:-800], atol=0.02)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"nonsense", "onnxruntime cannot load it")],
)
def test_the_runner_names_a_file_that_is_no_model(content, message, tmp_path):
    from asr.export.runner import OnnxRecognizer

    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        OnnxRecognizer(path)
