"""Every test of a network starts from the same seed and uses one thread."""

import pytest
import torch

from tests.tiny_backbone import one_thread


@pytest.fixture(autouse=True, scope="module")
def single_threaded():
    with one_thread():
        yield


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
