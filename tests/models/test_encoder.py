"""The encoder against `torch.nn` on packed sequences, and its independence of the batch."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.models.encoder import RecurrentEncoder, RecurrentLayer, reverse_within_length

CELLS = ("lstm", "gru", "rnn")


def packed_reference(rnn: nn.Module, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def test_reverses_each_utterance_within_its_own_length():
    x = torch.tensor([[1.0, 2, 3, 0], [4, 5, 6, 7]]).unsqueeze(2)
    result = reverse_within_length(x, torch.tensor([3, 4]))
    assert result.squeeze(2).tolist() == [[3, 2, 1, 0], [7, 6, 5, 4]]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_layer_equals_torch_on_packed_sequences_forward_and_backward(cell, bidirectional):
    torch.manual_seed(0)
    layer = RecurrentLayer(cell, 7, 5, bidirectional)
    x, lengths = torch.randn(4, 11, 7), torch.tensor([11, 3, 1, 8])

    ours = layer(x, lengths)
    ours.square().sum().backward()
    gradients = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    reference = packed_reference(layer.rnn, x, lengths)
    reference.square().sum().backward()

    torch.testing.assert_close(ours, reference, atol=1e-6, rtol=0)
    for gradient, parameter in zip(gradients, layer.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layer_norm", [True, False])
def test_an_utterance_gives_the_same_alone_and_in_any_batch(cell, layer_norm):
    torch.manual_seed(0)
    encoder = RecurrentEncoder(6, cell, hidden_size=8, num_layers=3, layer_norm=layer_norm).eval()
    lengths = torch.tensor([9, 30, 1, 17])
    # Padding is filled with noise: whatever is there must not matter.
    x = torch.randn(4, 30, 6)
    batch, _ = encoder(x, lengths)
    for b, length in enumerate(lengths.tolist()):
        alone, _ = encoder(x[b : b + 1, :length], lengths[b : b + 1])
        torch.testing.assert_close(alone[0], batch[b, :length], atol=1e-5, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("cell", CELLS)
def test_cuda_gives_what_the_cpu_gives(cell):
    torch.manual_seed(0)
    encoder = RecurrentEncoder(6, cell, hidden_size=8).eval()
    x, lengths = torch.randn(3, 20, 6), torch.tensor([20, 4, 11])
    on_cpu, _ = encoder(x, lengths)
    on_gpu, _ = encoder.cuda()(x.cuda(), lengths.cuda())
    for b, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(on_gpu[b, :length].cpu(), on_cpu[b, :length], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{"hidden_size": 0}, {"num_layers": 0}, {"dropout": 1.0}])
def test_refuses_sizes_that_make_no_network(options):
    with pytest.raises(ValueError, match="positive"):
        RecurrentEncoder(6, **options)
