"""int8 layers compute nearly the same, in both directions, and leave the model as it was."""

import pytest
import torch

from asr.errors import ModelError
from asr.models.layers import RecurrentLayer
from asr.models.packing import Packing
from asr.quantize import quantize, quantize_layer

TOKENS = {"_target_": "asr.text.CharacterTokenizer", "characters": list("abcdefgh")}


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_int8_is_nearly_the_same(cell, tiny_recognizer):
    recognizer = tiny_recognizer(TOKENS, cell=cell)
    inputs, lengths = 0.1 * torch.randn(4, 8000), torch.tensor([8000, 7000, 4000, 900])
    before = {name: value.clone() for name, value in recognizer.state_dict().items()}
    quantized = quantize(recognizer)
    with torch.inference_mode():
        own, own_lengths = recognizer.log_probs(inputs, lengths)
        theirs, their_lengths = quantized.log_probs(inputs, lengths)
    assert own_lengths.tolist() == their_lengths.tolist()
    for a, b, length in zip(own.exp(), theirs.exp(), own_lengths, strict=True):
        assert 0 < (a[:length] - b[:length]).abs().max() < 0.05
    for name, value in quantized.state_dict().items():
        assert torch.equal(value, before[name])


def test_padding_is_not_read():
    layer = RecurrentLayer("lstm", 12, 16, bidirectional=True).eval()
    quantize_layer(layer)
    # of one utterance alone and beside a longer one that changes no scale
    long = torch.rand(1, 30, 12) * 2 - 1
    long[0, 0, :2] = torch.tensor([-1.0, 1.0])
    short = long[:, :11].clone()
    both = torch.zeros(2, 30, 12)
    both[0], both[1, :11] = long, short
    alone, batched = Packing.of(torch.tensor([11])), Packing.of(torch.tensor([30, 11]))
    with torch.inference_mode():
        a = alone.unpack(layer(alone.pack(short), alone))[0]
        b = batched.unpack(layer(batched.pack(both), batched))[1, :11]
    torch.testing.assert_close(a, b, atol=0.03, rtol=0)


def test_a_light_gru_is_refused(tiny_recognizer):
    with pytest.raises(ModelError, match="int8 is for LSTM and GRU"):
        quantize(tiny_recognizer(TOKENS, cell="ligru"))
