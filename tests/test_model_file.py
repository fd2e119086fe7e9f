"""The one-file model: what goes in comes out; what is not a model is refused in one line."""

import errno
import gzip
import json
import os

import pytest
import torch
from safetensors.torch import save_file

from asr import container
from asr.errors import ModelError
from asr.files import atomic_write
from asr.model_file import load_model, pick_device, read_header, save_model
from asr.recognizer import Recognizer

CONFIG = {
    "features": {
        "_target_": "asr.features.FrontEnd",
        "extractor": {"_target_": "asr.features.LogMel", "sample_rate": 8000, "n_mels": 16},
    },
    "model": {
        "subsampling": {"_target_": "asr.models.subsampling.ConvSubsampling", "channels": 8},
        "encoder": {"_target_": "asr.models.encoder.RecurrentEncoder", "hidden_size": 8, "num_layers": 1},
    },
    "tokenizer": {"_target_": "asr.text.CharacterTokenizer", "characters": " abc"},
    "text": {"_target_": "asr.text.Normalizer"},
    "decoder": {"_target_": "asr.decoding.greedy.GreedyDecoder"},
}


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "model.asr"
    save_model(path, Recognizer.from_config(CONFIG, max_train_seconds=9.5), {"run": {"name": "x"}})
    return path


def rewrite(path, change):
    """Change the header of a model file, keeping its weights."""
    recognizer = load_model(path, device="cpu")
    header = read_header(path)
    change(header)
    save_file(dict(recognizer.state_dict()), path, metadata={"asr-model": json.dumps(header)})


def test_a_saved_model_recognises_as_before(tmp_path):
    torch.manual_seed(1)
    recognizer = Recognizer.from_config(CONFIG, max_train_seconds=9.5).eval()
    save_model(tmp_path / "m.asr", recognizer, {})
    loaded = load_model(tmp_path / "m.asr", device="cpu")
    waves, lengths = torch.randn(2, 8000), torch.tensor([8000, 5000])
    with torch.inference_mode():
        expected, _ = recognizer.log_probs(waves, lengths)
        found, _ = loaded.log_probs(waves, lengths)
    assert torch.equal(found, expected)
    assert loaded.max_train_seconds == 9.5
    assert loaded.output_length(1.0) == found.shape[1]


ARPA = """\\data\\
ngram 1=5
ngram 2=1

\\1-grams:
-99\t<s>\t0
-0.5\t</s>
-2\t<unk>\t0
-0.6\tab\t0
-0.6\tc\t0

\\2-grams:
-0.1\t<s> ab

\\end\\
"""


def test_a_decoders_files_travel_with_the_model_byte_for_byte(tmp_path, model):
    recognizer = load_model(model, device="cpu")
    weights = {key: tensor.clone() for key, tensor in recognizer.state_dict().items()}
    assets = {"lm": gzip.compress(ARPA.encode()), "lexicon": b"ab\tab\nc\tc\n"}
    config = {"_target_": "asr.decoding.beam.BeamDecoder", "lm_weight": 0.5, "unknown_words": "refuse"}
    recognizer.use_decoder(config, assets)
    save_model(tmp_path / "tuned.asr", recognizer, {})
    loaded = load_model(tmp_path / "tuned.asr", device="cpu")
    assert loaded.decoder.assets == assets
    assert loaded.config["decoder"] == config
    assert loaded.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in loaded.state_dict().items())
    waves, lengths = torch.randn(2, 8000), torch.tensor([8000, 5000])
    assert loaded.recognize(waves, lengths) == recognizer.recognize(waves, lengths)
    loaded.use_decoder({"_target_": "asr.decoding.greedy.GreedyDecoder"})
    save_model(tmp_path / "greedy.asr", loaded, {})
    assert not any("asset" in key for key in container.read_tensors(tmp_path / "greedy.asr"))


def test_a_damaged_file_inside_is_named(tmp_path, model):
    tensors = container.read_tensors(model)
    header = read_header(model)
    header["config"]["decoder"] = {"_target_": "asr.decoding.beam.BeamDecoder"}
    tensors["asset/lm"] = torch.frombuffer(bytearray(ARPA.encode()[:40]), dtype=torch.uint8)
    container.write(model, "asr-model", header, tensors)
    with pytest.raises(ModelError, match="language model has no section") as error:
        load_model(model, device="cpu")
    assert str(error.value).startswith(str(model))


def test_a_utterance_alone_and_in_a_padded_batch_has_the_same_log_probs_and_text(model):
    recognizer = load_model(model, device="cpu")
    lengths = torch.tensor([8000, 300, 5001, 2222])
    waves = torch.randn(4, 8000) * (torch.arange(8000) < lengths[:, None])
    with torch.inference_mode():
        together, out_lengths = recognizer.log_probs(waves, lengths)
        texts = [h.text for h in recognizer.recognize(waves, lengths)]
        for b, length in enumerate(lengths.tolist()):
            alone, out_length = recognizer.log_probs(waves[b : b + 1, :length], lengths[b : b + 1])
            assert out_length.item() == out_lengths[b].item()
            torch.testing.assert_close(alone[0], together[b, : out_length.item()], atol=1e-5, rtol=0)
            assert recognizer.recognize_audio([waves[b, :length].numpy()])[0].text == texts[b]


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


def cut_in_the_header(path):
    path.write_bytes(path.read_bytes()[:40])


def make_empty(path):
    path.write_bytes(b"")


def make_text(path):
    path.write_text("not a model\n" * 50)


def make_pickle(path):
    torch.save({"weights": torch.zeros(3)}, path)


def make_foreign(path):
    save_file({"weight": torch.zeros(3)}, path)


def name_foreign_code(path):
    def change(header):
        header["config"]["decoder"] = {"_target_": "os.system", "command": "true"}

    rewrite(path, change)


def name_our_code_that_runs_files(path):
    def change(header):
        header["config"]["decoder"] = {"_target_": "asr.cli.config.load_prepare", "recipe": "./evil"}

    rewrite(path, change)


def name_our_code_that_writes_files(path):
    def change(header):
        header["config"]["decoder"] = {
            "_target_": "asr.data.manifest.write_manifest",
            "path": "victim",
            "utterances": [],
        }

    rewrite(path, change)


def put_a_part_in_the_wrong_place(path):
    def change(header):
        header["config"]["tokenizer"] = {"_target_": "asr.text.Normalizer"}

    rewrite(path, change)


def name_unknown_option(path):
    def change(header):
        header["config"]["model"]["encoder"]["attention_heads"] = 4

    rewrite(path, change)


def change_size(path):
    def change(header):
        header["config"]["model"]["encoder"]["hidden_size"] = 9

    rewrite(path, change)


def make_newer(path):
    def change(header):
        header["version"] = 99

    rewrite(path, change)


def drop_config(path):
    def change(header):
        del header["config"]

    rewrite(path, change)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_short, "cut short"),
        (cut_in_the_header, "cut short"),
        (make_empty, "not a model file"),
        (make_text, "not a model file"),
        (make_pickle, "not a model file"),
        (make_foreign, "another program"),
        (name_foreign_code, "'os.system' is not allowed"),
        (name_our_code_that_runs_files, "'asr.cli.config.load_prepare' is not allowed"),
        (name_our_code_that_writes_files, "'asr.data.manifest.write_manifest' is not allowed"),
        (put_a_part_in_the_wrong_place, "asr.text.Normalizer is no Tokenizer"),
        (name_unknown_option, "has no such option"),
        (change_size, "size mismatch"),
        (make_newer, "model format 99"),
        (drop_config, "description inside is damaged"),
    ],
)
def test_what_is_not_a_model_is_refused_in_one_line_that_names_it(model, damage, message):
    damage(model)
    with pytest.raises(ModelError) as error:
        load_model(model, device="cpu")
    text = str(error.value)
    assert message in text
    assert text.startswith(str(model))
    assert "\n" not in text


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ModelError, match="no such model file"):
        load_model(tmp_path / "none.asr")


@pytest.mark.parametrize("device", ["tpu9", "gpu", "cuda:x", "mps", "meta", "cuda:99"])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(ModelError, match=r"--device"):
        pick_device(device)


def test_a_failed_write_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def write_and_fail():
        with atomic_write(path) as temporary:
            temporary.write_text("half of the new")
            raise OSError(errno.ENOSPC, "disk full")

    with pytest.raises(OSError, match=r"disk full.*file"):
        write_and_fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]
