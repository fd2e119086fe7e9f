"""The encoder against `torch.nn` and the reference cells, its independence of the batch, and streaming."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.models.cells import LiGRU as ReferenceLiGRU
from asr.models.encoder import RecurrentEncoder
from asr.models.layers import RecurrentLayer
from asr.models.packing import Packing
from asr.models.recurrence import recurrence

CELLS = ("lstm", "gru", "rnn", "rnn_relu", "ligru")
LENGTHS = [[11, 3, 1, 8], [6, 6, 6, 6], [11, 0, 4, 0]]


@pytest.fixture(params=[*CELLS, "lstm, many parts", "lstm, no fused kernel"])
def cell(request, monkeypatch):
    """Every cell, an LSTM in all ways of running it."""
    name, _, way = request.param.partition(", ")
    if way == "many parts":
        monkeypatch.setattr("asr.models.packing._PART", 0)
    elif way:
        monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    return name


def run_layer(layer, x, lengths):
    packing = Packing.of(lengths)
    return packing.unpack(layer(packing.pack(x), packing), x.shape[1])


@pytest.mark.parametrize("proj_size", [0, 3])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("lengths", LENGTHS[:2])
def test_layer_equals_torch_on_packed_sequences_forward_and_backward(cell, proj_size, bidirectional, lengths):
    if cell == "ligru" or (proj_size and cell != "lstm"):
        pytest.skip("torch has no such cell")
    torch.manual_seed(0)
    layer = RecurrentLayer(cell, 7, 5, bidirectional, proj_size)
    x, lengths = torch.randn(4, 11, 7), torch.tensor(lengths)

    def gradients(function):
        inputs = x.clone().requires_grad_()
        y = function(inputs)
        return y.detach(), torch.autograd.grad(y.square().sum(), [inputs, *layer.parameters()])

    def packed(inputs):
        sequence = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(layer.rnn(sequence)[0], batch_first=True, total_length=11)[0]

    ours, our_gradients = gradients(lambda inputs: run_layer(layer, inputs, lengths))
    reference, reference_gradients = gradients(packed)
    torch.testing.assert_close(ours, reference, atol=1e-6, rtol=0)
    torch.testing.assert_close(our_gradients, reference_gradients, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(run_layer(layer, x, lengths), reference, atol=1e-6, rtol=0)


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_light_gru_equals_the_reference_cell_forward_and_backward(norm):
    torch.manual_seed(0)
    layer = RecurrentLayer("ligru", 7, 5, bidirectional=False, norm=norm)
    cell = ReferenceLiGRU(7, 5, norm=norm)
    cell.load(layer.rnn)
    x, lengths = torch.randn(4, 11, 7), torch.tensor([11, 3, 1, 8])
    ours = run_layer(layer, x, lengths)
    reference = cell(x, lengths)
    reference = reference[0] if isinstance(reference, tuple) else reference
    torch.testing.assert_close(ours, reference, atol=1e-6, rtol=0)
    ours.square().sum().backward()
    reference.square().sum().backward()
    for name in ("weight_ih", "weight_hh"):
        gradient = getattr(layer.rnn, f"{name}_l0").grad
        torch.testing.assert_close(gradient, getattr(cell, name).grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "gates", "states"), [("lstm", 4, 2), ("gru", 3, 1), ("ligru", 2, 1)])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_gradients_are_those_of_finite_differences_states_included(kind, gates, states, lengths):
    """In double precision, where `torch.autograd.gradcheck` tells right from wrong to 1e-6."""
    torch.manual_seed(0)
    packing = Packing.of(torch.tensor(lengths))
    shapes = [(sum(lengths), 3), *[(2, 4, 2)] * states]
    shapes += [(gates * 2, 3), (gates * 2, 2), (gates * 2,), (gates * 2,)] * 2
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def run(x, *rest):
        weights = rest[states:]
        y, state = recurrence(kind, x, packing, [weights[:4], weights[4:]], rest[:states])
        return (y, *state)

    assert torch.autograd.gradcheck(run, tensors)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_bfloat16_stays_close_to_float32(cell, bidirectional):
    torch.manual_seed(0)
    encoder = RecurrentEncoder(16, cell, 32, 2, bidirectional, dropout=0.0)
    x, lengths = torch.randn(6, 50, 16), torch.tensor([50, 31, 44, 12, 50, 3])

    def gradients(low):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            y = encoder(x, lengths)[0]
        loss = (y.float() * torch.linspace(-1, 1, y.shape[2])).sum()
        grads = torch.autograd.grad(loss, list(encoder.parameters()))
        return y.float(), torch.cat([g.flatten() for g in grads])

    (full, full_gradient), (low, low_gradient) = gradients(False), gradients(True)
    assert (full - low).norm() / full.norm() < 0.03
    assert torch.cosine_similarity(full_gradient, low_gradient, dim=0) > 0.995


VARIANTS = {
    "plain": {"norm": "none"},
    "layer norm": {"norm": "layer", "residual": True},
    "batch norm": {"norm": "batch", "directions": "sum"},
    "projection": {"projection": 6, "residual": True},
    "pyramid": {"reductions": [2, 3]},
    "chunks": {"chunk": 4, "right_context": 3},
    "look-ahead": {"bidirectional": False, "lookahead": 5},
    "one direction": {"bidirectional": False},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_utterance_gives_the_same_alone_and_in_any_batch(cell, variant):
    """In double precision: what is left is a leak, not rounding."""
    torch.manual_seed(0)
    encoder = RecurrentEncoder(6, cell, hidden_size=8, num_layers=3, **VARIANTS[variant]).double().eval()
    for size in (3, 64):
        lengths = torch.randint(1, 25, (size,))
        # Padding is filled with noise: whatever is there must not matter.
        x = torch.randn(size, 25, 6, dtype=torch.float64)
        batch, out_lengths = encoder(x, lengths)
        for b, length in enumerate(lengths.tolist()[:3]):
            alone, alone_length = encoder(x[b : b + 1, :length], lengths[b : b + 1])
            n = encoder.output_length(length)
            assert alone_length.item() == out_lengths[b].item() == n == alone.shape[1]
            torch.testing.assert_close(alone[0], batch[b, :n], atol=1e-11, rtol=0)
            assert not batch[b, n:].any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_variational_dropout_zeroes_the_same_outputs_in_all_frames_of_an_utterance(variant):
    torch.manual_seed(0)
    options = {"num_layers": 3} | VARIANTS[variant] | {"residual": False}
    encoder = RecurrentEncoder(5, "lstm", 8, dropout=0.3, dropout_kind="variational", **options)
    x, lengths = torch.randn(4, 31, 5), torch.tensor([31, 9, 31, 17])
    dropped = encoder(x, lengths)[0] == 0
    patterns = [dropped[i, : encoder.output_length(int(n))] for i, n in enumerate(lengths)]
    for pattern in patterns:
        assert torch.equal(pattern, pattern[:1].expand_as(pattern))
    assert 0.05 < torch.cat([p[0] for p in patterns]).float().mean() < 0.7
    assert not torch.equal(patterns[0][0], patterns[2][0]), "each utterance draws its own"


def test_variational_dropout_keeps_the_mean_and_is_off_in_evaluation():
    torch.manual_seed(0)
    encoder = RecurrentEncoder(5, "gru", 8, 1, dropout=0.4, dropout_kind="variational", norm="none")
    x, lengths = torch.randn(1, 6, 5), torch.tensor([6])
    expected = encoder.eval()(x, lengths)[0]
    many = encoder.train()(x.expand(4000, -1, -1), lengths.expand(4000))[0]
    torch.testing.assert_close(many.mean(0), expected[0], atol=0.03, rtol=0)
    once = many[0] / expected[0]
    assert ((once == 0) | torch.isclose(once, torch.tensor(1 / 0.6))).all()


def test_batch_norm_leaves_padding_out_of_its_statistics():
    torch.manual_seed(0)
    encoder = RecurrentEncoder(6, "gru", 8, 2, norm="batch", dropout=0.0).train()
    lengths = torch.tensor([9, 4])
    x = torch.randn(2, 9, 6)
    y, _ = encoder(x, lengths)
    padded, _ = encoder(torch.cat([x, torch.randn(2, 20, 6)], dim=1), lengths)
    torch.testing.assert_close(padded[:, :9], y)
    valid = torch.cat([y[0], y[1, :4]])
    torch.testing.assert_close(valid.mean(0), torch.zeros(16), atol=1e-5, rtol=0)


def test_directions_are_summed():
    torch.manual_seed(0)
    both = RecurrentEncoder(6, hidden_size=8, num_layers=1, norm="none").eval()
    added = RecurrentEncoder(6, hidden_size=8, num_layers=1, norm="none", directions="sum").eval()
    added.load_state_dict(both.state_dict())
    x, lengths = torch.randn(2, 5, 6), torch.tensor([5, 3])
    forward, backward = both(x, lengths)[0].chunk(2, dim=2)
    torch.testing.assert_close(added(x, lengths)[0], forward + backward)


def test_look_ahead_sees_just_its_context():
    encoder = RecurrentEncoder(3, hidden_size=4, num_layers=1, bidirectional=False, lookahead=2).eval()
    nn.init.normal_(encoder.lookahead.weight)
    x = torch.randn(1, 10, 3)
    changed = x.clone()
    changed[:, 6] += 1
    moved = (encoder(x, torch.tensor([10]))[0] != encoder(changed, torch.tensor([10]))[0]).any(2)[0]
    assert moved.tolist() == [False] * 4 + [True] * 6


def test_chunks_that_hold_everything_are_a_whole_bidirectional_pass():
    torch.manual_seed(0)
    whole = RecurrentEncoder(3, hidden_size=4).eval()
    chunked = RecurrentEncoder(3, hidden_size=4, chunk=20, right_context=5).eval()
    chunked.load_state_dict(whole.state_dict())
    x, lengths = torch.randn(3, 18, 3), torch.tensor([18, 4, 11])
    torch.testing.assert_close(chunked(x, lengths)[0], whole(x, lengths)[0])


def test_chunks_see_their_right_context_and_no_more():
    encoder = RecurrentEncoder(3, hidden_size=4, chunk=4, right_context=2).eval()
    x = torch.randn(1, 12, 3)
    changed = x.clone()
    changed[:, 6] += 1
    moved = (encoder(x, torch.tensor([12]))[0] != encoder(changed, torch.tensor([12]))[0]).any(2)[0]
    assert moved.tolist() == [False] * 4 + [True] * 8


@pytest.mark.parametrize(
    "options",
    [
        {"bidirectional": False},
        {"bidirectional": False, "lookahead": 4, "norm": "batch"},
        {"bidirectional": False, "reductions": [2, 3]},
        {"chunk": 5, "right_context": 3, "directions": "sum"},
    ],
    ids=["one direction", "look-ahead", "pyramid", "chunks"],
)
@pytest.mark.parametrize("step", [1, 7])
def test_a_stream_gives_what_all_at_once_gives(cell, options, step):
    torch.manual_seed(0)
    encoder = RecurrentEncoder(6, cell, hidden_size=8, num_layers=3, **options).eval()
    x = torch.randn(2, 23, 6)
    whole, _ = encoder(x, torch.tensor([23, 23]))
    state, outputs = None, []
    for start in range(0, 23, step):
        y, state = encoder.stream(x[:, start : start + step], state)
        outputs.append(y)
    y, state = encoder.stream(x[:, :0], state, final=True)
    torch.testing.assert_close(torch.cat([*outputs, y], dim=1), whole, atol=1e-5, rtol=0)


def test_a_bidirectional_encoder_does_not_pretend_to_stream():
    with pytest.raises(ValueError, match="whole utterance"):
        RecurrentEncoder(6).stream(torch.randn(1, 5, 6))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives(cell):
    torch.manual_seed(0)
    encoder = RecurrentEncoder(6, cell, hidden_size=8).eval()
    x, lengths = torch.randn(3, 20, 6), torch.tensor([20, 4, 11])
    on_cpu, _ = encoder(x, lengths)
    on_gpu, _ = encoder.cuda()(x.cuda(), lengths.cuda())
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "positive"),
        ({"num_layers": 0}, "positive"),
        ({"dropout": 1.0}, "dropout"),
        ({"projection": -1}, "projection must not be negative"),
        ({"cell": "gru", "proj_size": 4}, "proj_size is for cell lstm"),
        ({"proj_size": 256}, "smaller than hidden_size"),
        ({"reductions": [2]}, "2 positive factors"),
        ({"lookahead": 3}, "for one direction"),
        ({"right_context": 3}, "for two directions"),
        ({"chunk": 3, "bidirectional": False}, "for two directions"),
        ({"chunk": 3, "reductions": [2, 2]}, "without reductions"),
    ],
)
def test_refuses_options_that_make_no_network(options, message):
    with pytest.raises(ValueError, match=message):
        RecurrentEncoder(6, **options)
