"""Every test of a network starts from the same seed and uses one thread."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded(single_threaded):
    torch.manual_seed(0)
