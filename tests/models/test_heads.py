"""From what a backbone sees to logits."""

import pytest
import torch
from torch import nn

from mer.models.heads import HEADS, AttentionHead, AverageHead, GRUHead, make_head
from mer.utils.errors import BackboneError

OVER_TIME = [name for name, head in HEADS.items() if head.sees == "time"]


def an_input(name, *, n=4, features=6, time=9):
    return torch.randn(n, features, time) if HEADS[name].sees != "embeddings" else torch.randn(n, features)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("n", [1, 4])
def test_every_head_gives_logits_of_each_class(name, n):
    head = make_head(name, features=6, classes=3, dropout=0.2)
    head.train(name != "bands" or n > 1)  # batch norm learns nothing of a single image
    assert head(an_input(name, n=n)).shape == (n, 3)


@pytest.mark.parametrize("name", HEADS)
def test_the_gradient_reaches_every_parameter_and_the_input(name):
    head = make_head(name, features=6, classes=3, dropout=0.0)
    nn.init.normal_(head.linear.weight)  # that of `bands` starts at zero
    x = an_input(name).requires_grad_()
    head(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    silent = [key for key, p in head.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-6]
    assert silent == (["score.2.bias"] if name == "attention" else [])  # softmax ignores a common offset


@pytest.mark.parametrize("name", HEADS)
def test_dropout_is_active_in_training_only(name):
    head, x = make_head(name, features=6, classes=3, dropout=0.5), an_input(name)
    nn.init.normal_(head.linear.weight)
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head(x))


@pytest.mark.parametrize("name", HEADS)
def test_examples_of_a_batch_do_not_affect_each_other(name):
    head = make_head(name, features=6, classes=3, dropout=0.0).eval()
    x = an_input(name)
    one_by_one = torch.cat([head(part) for part in x.split(1)])
    assert torch.allclose(head(x), one_by_one, atol=1e-6)


@pytest.mark.parametrize("name", OVER_TIME)
@pytest.mark.parametrize("time", [1, 2, 40])
def test_heads_over_time_take_any_length(name, time):
    head = make_head(name, features=6, classes=3, dropout=0.0)
    assert head(an_input(name, time=time)).shape == (4, 3)


def test_attention_is_a_distribution_over_time():
    weights = AttentionHead(6, 3, 0.0).weights(torch.randn(4, 6, 9) * 10)
    assert weights.shape == (4, 9)
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(dim=1), torch.ones(4))


def test_attention_on_one_moment_gives_the_logits_of_that_moment():
    head, x = AttentionHead(6, 3, 0.0), torch.zeros(1, 6, 9)
    x[0, 0, 4] = 1
    with torch.no_grad():
        head.score[0].weight.zero_()[0, 0] = 50
        head.score[0].bias.zero_()
        head.score[2].weight.zero_()[0, 0] = 50
    assert head.weights(x).argmax() == 4
    assert torch.allclose(head(x), head.linear(x[:, :, 4]), atol=1e-5)


def test_attention_ignores_the_order_of_moments_and_the_gru_does_not():
    x = torch.randn(4, 6, 9)
    shuffled = x[:, :, torch.randperm(9)]
    attention, gru = AttentionHead(6, 3, 0.0), GRUHead(6, 3, 0.0)
    assert torch.allclose(attention(x), attention(shuffled), atol=1e-5)
    assert not torch.allclose(gru(x), gru(shuffled), atol=1e-5)


def test_the_gru_reads_both_ways():
    head, x = GRUHead(6, 3, 0.0), torch.randn(1, 6, 9, requires_grad=True)
    states, _ = head.gru(x.transpose(1, 2))
    width = states.shape[2] // 2
    for state in (states[0, 0, width:], states[0, -1, :width]):
        (gradient,) = torch.autograd.grad(state.sum(), x, retain_graph=True)
        assert (gradient.abs().sum(dim=1) > 0).all()


def test_the_average_head_is_one_linear_layer():
    head = AverageHead(6, 3, 0.0)
    assert {key: tuple(p.shape) for key, p in head.named_parameters()} == {
        "linear.weight": (3, 6),
        "linear.bias": (3,),
    }


def test_an_unknown_head_is_named_with_the_valid_ones():
    with pytest.raises(BackboneError, match=r"unknown head 'max'; choose one of: avg, bands, attention, gru"):
        make_head("max", features=6, classes=3, dropout=0.0)
