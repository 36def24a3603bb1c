"""Batch-norm over the batches of several processes is that of one process with the whole batch."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mer.training import norms
from mer.training.norms import joined_norms

NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}


class Meeting:
    """Threads that stand for processes: each gives its rows and gets those of all."""

    def __init__(self, size):
        self.rows, self.barrier, self.rank = (
            [None] * size,
            threading.Barrier(size, timeout=20),
            threading.local(),
        )

    def gathered(self, values):
        self.rows[self.rank.number] = values
        self.barrier.wait()
        together = torch.stack(self.rows)
        self.barrier.wait()
        return together


def stepped(norm, x, pull):
    """What comes out, the gradients of x and of the weights, and what was measured."""
    x = x.clone().requires_grad_()
    out = norm(x)
    (out * pull).sum().backward()
    return out.detach(), x.grad, [p.grad for p in norm.parameters()], dict(norm.named_buffers())


def together(norm, shares, pulls):
    """The same of each of several threads, with a copy of `norm`."""
    meeting = Meeting(len(shares))

    def one(number):
        meeting.rank.number = number
        model = nn.Sequential(type(norm)(norm.num_features, norm.eps, norm.momentum, norm.affine))
        model[0].load_state_dict(norm.state_dict())
        model = joined_norms(model).to(norm.running_mean.dtype)
        return stepped(model[0], shares[number], pulls[number])

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(shares)) as pool:
        patch.setattr(norms, "gathered", meeting.gathered)
        return list(pool.map(one, range(len(shares))))


def weighted(norm):
    if norm.affine:
        with torch.no_grad():
            norm.weight.uniform_(0.5, 2.0)
            norm.bias.uniform_(-1.0, 1.0)
    return norm


@given(
    shares=st.lists(st.integers(1, 5), min_size=2, max_size=3),
    dimensions=st.sampled_from([2, 3, 4]),
    affine=st.booleans(),
    momentum=st.sampled_from([0.1, None]),
    off=st.sampled_from([0.0, 100.0]),
    seed=st.integers(0, 2**16),
)
def test_shares_of_any_size_are_normed_as_the_whole_batch(shares, dimensions, affine, momentum, off, seed):
    torch.manual_seed(seed)
    shape = (sum(shares), 4, 3, 5)[:dimensions]
    x, pull = torch.randn(shape, dtype=torch.float64) + off, torch.randn(shape, dtype=torch.float64)
    norm = weighted(NORMS[dimensions](4, momentum=momentum, affine=affine).double())
    found = together(norm, x.split(shares), pull.split(shares))
    out, grad, by_parameters, buffers = stepped(norm, x, pull)
    torch.testing.assert_close(torch.cat([one[0] for one in found]), out)
    torch.testing.assert_close(torch.cat([one[1] for one in found]), grad)
    for number, wanted in enumerate(by_parameters):
        torch.testing.assert_close(sum(one[2][number] for one in found), wanted)
    for one in found:
        torch.testing.assert_close(one[3], buffers)


def test_half_precision_stays_what_it_is_beside_whole_weights():
    x, pull = torch.randn(6, 4, 8, 8).bfloat16(), torch.randn(6, 4, 8, 8).bfloat16()
    norm = weighted(nn.BatchNorm2d(4))
    found = together(norm, x.split([2, 4]), pull.split([2, 4]))
    out, grad, _, buffers = stepped(norm, x, pull)
    assert found[0][0].dtype == found[0][1].dtype == torch.bfloat16
    torch.testing.assert_close(torch.cat([one[0] for one in found]), out)
    torch.testing.assert_close(torch.cat([one[1] for one in found]), grad, atol=2e-3, rtol=0.02)
    torch.testing.assert_close(found[0][3], buffers, atol=1e-3, rtol=1e-3)


def test_joined_norms_keep_names_values_and_what_trains():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4, momentum=0.3)).eval()
    net[1].running_mean.fill_(2.0)
    net[1].weight.requires_grad = False
    before, x = net.state_dict(), torch.randn(2, 3, 5, 5)
    wanted = net(x)
    joined = joined_norms(net)
    assert joined.state_dict().keys() == before.keys()
    assert torch.equal(joined(x), wanted)
    assert [p.requires_grad for p in joined[1].parameters()] == [False, True]
    assert (joined[1].momentum, joined[1].training) == (0.3, False)
