"""Batch-norm over the batches of several processes is that of one process with the whole batch."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d
from torch import nn

from mer.models.zoo import ZOO
from mer.training import norms
from mer.training.norms import joined_norms
from mer.utils.errors import BackboneError
from tests.real_networks import example_images

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
        model.to(norm.running_mean.dtype).load_state_dict(nn.Sequential(norm).state_dict())
        with joined_norms(model):
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
def test_parts_of_any_size_are_normalised_like_the_whole_batch(
    shares, dimensions, affine, momentum, off, seed
):
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


def test_half_precision_input_gives_half_precision_output():
    x, pull = torch.randn(6, 4, 8, 8).bfloat16(), torch.randn(6, 4, 8, 8).bfloat16()
    norm = weighted(nn.BatchNorm2d(4))
    found = together(norm, x.split([2, 4]), pull.split([2, 4]))
    out, grad, _, buffers = stepped(norm, x, pull)
    assert found[0][0].dtype == found[0][1].dtype == torch.bfloat16
    torch.testing.assert_close(torch.cat([one[0] for one in found]), out)
    torch.testing.assert_close(torch.cat([one[1] for one in found]), grad, atol=2e-3, rtol=0.02)
    torch.testing.assert_close(found[0][3], buffers, atol=1e-3, rtol=1e-3)


@pytest.fixture
def one_process():
    """A group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def both_ways(net, x):
    """The output of a network with its own norms, and with joined ones; the same numbers are drawn."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.0  # so that the first pass changes nothing that the second uses
    with torch.no_grad():
        torch.manual_seed(0)
        own = net(x)
        torch.manual_seed(0)
        with joined_norms(net):
            return own, net(x)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.promise(
    "Joining batch-norms over processes changes the output of no network.", measured="every network"
)
def test_every_network_of_the_zoo_computes_the_same_with_joined_norms(name, one_process):
    torch.manual_seed(1)
    net = ZOO[name].build()
    torch.nn.init.normal_(net.get_submodule(ZOO[name].output).weight)  # so that outputs are not all alike
    x = torch.randn_like(example_images(name, 3, height=96, width=96))
    for training in (True, False):
        own, joined = both_ways(net.train(training), x)
        assert own.std() > 0
        torch.testing.assert_close(joined, own, rtol=1e-3, atol=1e-3 * float(own.abs().max()))


def test_a_joined_norm_keeps_dropout_and_activation_of_the_norm_it_replaces(one_process):
    net = nn.Sequential(BatchNormAct2d(4, act_layer=nn.ReLU6, drop_layer=lambda: nn.Dropout(0.5)))
    own, joined = both_ways(net, torch.randn(8, 4, 6, 6))
    torch.testing.assert_close(joined, own)
    assert own.min() == 0


def test_an_unknown_kind_of_batch_norm_is_refused_and_nothing_is_changed():
    class Doubled(nn.BatchNorm2d):
        def forward(self, x):
            return 2 * super().forward(x)

    net = nn.Sequential(nn.BatchNorm2d(4), Doubled(4))
    with pytest.raises(BackboneError, match=r"a batch-norm of kind .*Doubled cannot be"), joined_norms(net):
        pass
    assert type(net[0]) is nn.BatchNorm2d


def test_joined_norms_keep_names_values_and_trainability():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4, momentum=0.3))
    net[1].weight.requires_grad = False
    before = net.state_dict()
    with joined_norms(net):
        assert net.state_dict().keys() == before.keys()
        assert [p.requires_grad for p in net[1].parameters()] == [False, True]
        assert (net[1].momentum, net[1].training) == (0.3, True)
        assert net[1].weight is before["1.weight"] or torch.equal(net[1].weight, before["1.weight"])


def test_afterwards_a_network_has_its_own_norms_with_the_learned_values(one_process):
    net = nn.Sequential(nn.BatchNorm2d(4))
    own = net[0]
    with joined_norms(net):
        net(torch.randn(8, 4, 5, 5) + 3)
        net.eval()
    assert net[0] is own
    assert not own.training
    assert own.num_batches_tracked == 1
    assert own.running_mean.mean() > 0.2


def test_norms_in_evaluation_mode_are_not_replaced():
    net = nn.Sequential(nn.BatchNorm2d(4).eval(), nn.BatchNorm2d(4))
    with joined_norms(net):
        assert type(net[0]) is nn.BatchNorm2d
        assert type(net[1]) is not nn.BatchNorm2d
