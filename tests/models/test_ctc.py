"""Subsampling and the CTC model: lengths, independence of the batch, the loss."""

import itertools

import pytest
import torch

from asr.models.ctc import CtcModel, build_model, ctc_loss, model_problems
from asr.models.encoder import RecurrentEncoder
from asr.models.subsampling import (
    Conv2dSubsampling,
    ConvSubsampling,
    NoSubsampling,
    StackSubsampling,
    SubsamplingStream,
    VggSubsampling,
)

SUBSAMPLINGS = {
    "none": lambda size: NoSubsampling(size),
    "conv": lambda size: ConvSubsampling(size, 12, [5, 3], [2, 2]),
    "conv stride 3": lambda size: ConvSubsampling(size, 12, [7], [3]),
    "conv2d": lambda size: Conv2dSubsampling(size, 4),
    "ds2": lambda size: Conv2dSubsampling(
        size, 4, [[11, 7], [11, 5]], [[2, 2], [1, 2]], norm="batch", max_value=20.0
    ),
    "vgg": lambda size: VggSubsampling(size, [4, 6]),
    "stack": lambda size: StackSubsampling(size, 3),
}


@pytest.mark.parametrize("name", SUBSAMPLINGS)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 7, 8, 31, 100])
def test_the_reported_length_is_the_length(name, length):
    module = SUBSAMPLINGS[name](10)
    y, lengths = module(torch.randn(1, length, 10), torch.tensor([length]))
    assert y.shape == (1, lengths.item(), module.output_size)
    assert lengths.item() == module.output_length(length)
    assert lengths.dtype == torch.int64


CELLS = ("lstm", "gru", "rnn", "rnn_relu", "ligru")


@pytest.mark.parametrize("name", SUBSAMPLINGS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_log_probs_do_not_depend_on_the_batch(name, cell, norm, bidirectional):
    torch.manual_seed(0)
    subsampling = SUBSAMPLINGS[name](10)
    encoder = RecurrentEncoder(subsampling.output_size, cell, 16, 2, bidirectional, norm=norm)
    model = CtcModel(subsampling, encoder, 7).eval()
    for size in (3, 64):
        lengths = torch.randint(1, 25, (size,))
        x = torch.randn(size, 25, 10)
        together, out_lengths = model(x, lengths)
        for b, length in enumerate(lengths.tolist()[:3]):
            alone, alone_length = model(x[b : b + 1, :length], lengths[b : b + 1])
            assert alone_length.item() == out_lengths[b].item() == model.output_length(length)
            torch.testing.assert_close(alone[0], together[b, : alone_length.item()], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SUBSAMPLINGS)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_gradients_of_a_batch_are_the_sum_of_the_gradients_of_its_utterances(name, cell, bidirectional):
    torch.manual_seed(0)
    subsampling = SUBSAMPLINGS[name](5)
    encoder = RecurrentEncoder(subsampling.output_size, cell, 8, 2, bidirectional)
    model = CtcModel(subsampling, encoder, 5).eval()
    x, lengths = torch.randn(3, 32, 5), torch.tensor([32, 23, 28])
    targets, target_lengths = (
        torch.tensor([[1, 2, 3, 4], [2, 3, 0, 0], [4, 2, 1, 0]]),
        torch.tensor([4, 2, 3]),
    )

    def gradients(rows):
        model.zero_grad()
        log_probs, out = model(x[rows, : lengths[rows].max()], lengths[rows])
        ctc_loss(log_probs, out, targets[rows], target_lengths[rows]).sum().backward()
        return [p.grad.clone() for p in model.parameters()]

    singles = [gradients([b]) for b in range(3)]
    for together, *alone in zip(gradients([0, 1, 2]), *singles, strict=True):
        torch.testing.assert_close(together, sum(alone), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SUBSAMPLINGS)
@pytest.mark.parametrize("step", [1, 10, 200])
def test_a_stream_gives_what_all_frames_at_once_give(name, step):
    torch.manual_seed(0)
    subsampling = SUBSAMPLINGS[name](10)
    encoder = RecurrentEncoder(
        subsampling.output_size, hidden_size=16, num_layers=2, bidirectional=False, lookahead=3
    )
    model = CtcModel(subsampling, encoder, 7).eval()
    x = torch.randn(2, 101, 10)
    whole, _ = model(x, torch.tensor([101, 101]))
    stream = model.stream()
    outputs = [stream.push(x[:, start : start + step]) for start in range(0, 101, step)]
    if step == 10:  # no output waits for more frames than it sees
        waiting = whole.shape[1] - sum(y.shape[1] for y in outputs)
        assert waiting * model.factor <= subsampling.context + 3 * model.factor + model.factor
    outputs.append(stream.push(x[:, :0], final=True))
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole, atol=1e-5, rtol=0)


def test_a_stream_keeps_no_more_than_it_looks_back_on():
    subsampling = ConvSubsampling(4, 8, [5, 3], [2, 2])
    stream = SubsamplingStream(subsampling)
    for _ in range(50):
        stream.push(torch.randn(1, 10, 4))
    assert stream.frames.shape[1] < 40


def make_model():
    return CtcModel(ConvSubsampling(5, 8), RecurrentEncoder(8, hidden_size=8), 5).eval()


def test_an_utterance_without_frames_has_no_output_and_harms_none():
    model, x = make_model(), torch.randn(3, 9, 5)
    log_probs, lengths = model(x, torch.tensor([9, 0, 1]))
    assert lengths.tolist() == [5, 0, 1]
    torch.testing.assert_close(log_probs[0], model(x[:1], torch.tensor([9]))[0][0], atol=1e-5, rtol=0)
    assert model(x, torch.tensor([0, 0, 0]))[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([9, 10], "0 to 9"),
        ([9, -1], "0 to 9"),
        ([9], "expected integers of shape"),
        ([9.0, 4.0], "expected integers"),
    ],
)
def test_refuses_lengths_that_do_not_lie_in_the_batch(lengths, message):
    with pytest.raises(ValueError, match=message):
        make_model()(torch.randn(2, 9, 5), torch.tensor(lengths))


def test_takes_frames_that_are_not_contiguous_or_of_half_precision():
    model, x, lengths = make_model(), torch.randn(2, 9, 5), torch.tensor([9, 4])
    expected, _ = model(x, lengths)
    torch.testing.assert_close(model(x.transpose(1, 2).contiguous().transpose(1, 2), lengths)[0], expected)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        low, _ = model(x.to(dtype), lengths.int())
        torch.testing.assert_close(low, expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("delay_penalty", [0.0, 0.3])
@pytest.mark.parametrize("target", [(), (1,), (1, 2, 2), (2, 1, 2, 1)])
def test_loss_is_minus_the_log_of_the_summed_probability_of_all_alignments(target, delay_penalty):
    """Brute force over all paths, by the definition in Graves et al. 2006, equation 3.

    With a penalty a path loses it for every frame from a token's begin to that of a 2 behind it.
    """
    torch.manual_seed(0)
    frames, vocabulary = 5, 3
    log_probs = torch.randn(2, frames + 2, vocabulary).log_softmax(-1)
    total = 0.0
    for path in itertools.product(range(vocabulary), repeat=frames):
        runs = [(token, len(list(group))) for token, group in itertools.groupby(path)]
        starts = list(itertools.accumulate((length for _, length in runs), initial=0))
        begins = [start for start, (token, _) in zip(starts, runs, strict=False) if token]
        if tuple(path[start] for start in begins) == target:
            late = sum(here - before for before, here in itertools.pairwise(begins) if path[here] == 2)
            path_score = sum(log_probs[0, i, t] for i, t in enumerate(path))
            total += torch.exp(path_score - delay_penalty * late).item()
    # Beside it in the batch stands one with more frames and, unless the target has no token, more tokens.
    width = 5 if target else 0
    targets = torch.tensor([[*target, *[1] * (width - len(target))]] * 2, dtype=torch.int64)
    lengths, target_lengths = torch.tensor([frames, frames + 2]), torch.tensor([len(target), width])
    losses = ctc_loss(log_probs, lengths, targets, target_lengths, delay_penalty=delay_penalty, delayed=2)
    assert torch.exp(-losses[0]).item() == pytest.approx(total, rel=1e-5)


def test_a_delay_penalty_of_almost_nothing_changes_almost_nothing():
    torch.manual_seed(0)
    logits = torch.randn(4, 30, 6, requires_grad=True)
    lengths, target_lengths = torch.tensor([30, 17, 9, 0]), torch.tensor([9, 5, 9, 2])
    targets = torch.randint(1, 6, (4, 9))
    targets[2] = 3  # too many repeats for 9 frames
    results = []
    for penalty in (0.0, 1e-9):
        losses = ctc_loss(
            logits.log_softmax(-1), lengths, targets, target_lengths, delay_penalty=penalty, delayed=1
        )
        assert losses.isinf().tolist() == [False, False, True, True]
        (gradient,) = torch.autograd.grad(losses[:2].sum(), logits)
        results.append((losses[:2].detach(), gradient[:2]))
    torch.testing.assert_close(results[1], results[0])


def test_with_a_delay_penalty_the_token_follows_the_one_before_it_sooner():
    log_probs = torch.zeros(1, 9, 4).log_softmax(-1).requires_grad_()
    targets, centers = torch.tensor([[1, 2, 3]]), []
    for penalty in (0.001, 0.2, 1.0):
        loss = ctc_loss(
            log_probs, torch.tensor([9]), targets, torch.tensor([3]), delay_penalty=penalty, delayed=2
        )
        # Minus the probability of each token in each frame, given the text.
        (gradient,) = torch.autograd.grad(-loss.sum(), log_probs)
        posterior = gradient[0, :, 1:]
        centers.append((torch.arange(9.0) @ posterior / posterior.sum(0)).tolist())
    waits = [space - letter for letter, space, _ in centers]
    assert waits[0] > waits[1] > waits[2]


def test_a_delay_penalty_needs_a_token():
    log_probs = torch.zeros(1, 2, 3).log_softmax(-1)
    with pytest.raises(ValueError, match="the token whose delay"):
        ctc_loss(log_probs, torch.tensor([2]), torch.tensor([[1]]), torch.tensor([1]), delay_penalty=0.1)


def test_loss_of_a_text_that_does_not_fit_is_infinite():
    log_probs = torch.zeros(1, 2, 3).log_softmax(-1)
    loss = ctc_loss(log_probs, torch.tensor([2]), torch.tensor([[1, 1]]), torch.tensor([2]))
    assert loss.item() == float("inf")


def test_a_configuration_builds_and_its_mistakes_are_listed_together():
    good = {
        "subsampling": {"_target_": "asr.models.subsampling.ConvSubsampling", "channels": 8},
        "encoder": {"_target_": "asr.models.encoder.RecurrentEncoder", "hidden_size": 4},
    }
    assert model_problems(good) == []
    assert build_model(good, 10, 5).head.out_features == 5
    bad = {
        "subsampling": good["subsampling"] | {"chanels": 8},
        "encoder": good["encoder"] | {"hidden_size": "many"},
        "head": {},
    }
    mistakes = "; ".join(model_problems(bad))
    assert "did you mean 'channels'?" in mistakes
    assert "model.encoder.hidden_size: expected int, found 'many'" in mistakes
    assert "model.head: unknown" in mistakes


def test_dropout_of_a_convolution_is_for_training_alone():
    subsampling = ConvSubsampling(5, 64, dropout=0.5)
    x, lengths = torch.randn(2, 20, 5), torch.tensor([20, 11])
    torch.manual_seed(0)
    trained, _ = subsampling(x, lengths)
    evaluated, _ = subsampling.eval()(x, lengths)
    kept = trained != 0
    torch.testing.assert_close(trained[kept], 2 * evaluated[kept])
    dropped = (evaluated[~kept] > 0).sum() / (evaluated > 0).sum()
    assert dropped.item() == pytest.approx(0.5, abs=0.1)
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), found 1"):
        ConvSubsampling(5, 8, dropout=1.0)


@pytest.mark.parametrize(("kernels", "strides"), [([4], [2]), ([3], [0]), ([3, 3], [2]), ([], [])])
def test_refuses_kernels_and_strides_that_make_no_convolution(kernels, strides):
    with pytest.raises(ValueError, match="kernel_sizes"):
        ConvSubsampling(5, 8, kernels, strides)
