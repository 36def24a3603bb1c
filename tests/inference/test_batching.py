"""Concurrent calls are answered by one forward pass, each with its own rows."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mer.inference.batching import Gatherer


class Doubling:
    """Doubles what it sees, and remembers how much that was each time."""

    def __init__(self, seconds=0.0):
        self.sizes, self.seconds, self.inside = [], seconds, threading.Lock()

    def __call__(self, inputs):
        assert self.inside.acquire(blocking=False), "two looks at once"
        self.sizes.append(len(inputs))
        time.sleep(self.seconds)
        self.inside.release()
        return 2 * inputs.numpy(), -inputs.numpy()


def ask(gather, parts):
    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(gather, parts))


def parts_of(count):
    return [torch.arange(n % 4 + 1).float() + 10 * n for n in range(count)]


def test_each_thread_gets_the_rows_of_its_own_inputs():
    look, parts = Doubling(), parts_of(40)
    found = ask(Gatherer(look, 0.05), parts)
    for part, (first, second) in zip(parts, found, strict=True):
        assert np.array_equal(first, 2 * part.numpy())
        assert np.array_equal(second, -part.numpy())
    assert sum(look.sizes) == sum(map(len, parts))


def test_concurrent_calls_share_a_forward_pass():
    look = Doubling()
    ask(Gatherer(look, 0.5), parts_of(16))
    assert len(look.sizes) < 16 / 4


def test_while_one_batch_is_computed_the_next_collects_and_every_thread_gets_an_answer():
    look = Doubling(seconds=0.5)
    gather = Gatherer(look, 0.0)
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(gather, part) for part in parts_of(20)]
        for answer in answers:
            answer.result(timeout=60)
    assert len(look.sizes) < 10


def test_an_error_reaches_every_thread_of_its_batch_and_no_later_one():
    broken = [True]

    def look(inputs):
        if broken[0]:
            raise ValueError("no memory")
        return (inputs.numpy(),)

    gather = Gatherer(look, 0.1)

    def attempt(part):
        with pytest.raises(ValueError, match="no memory"):
            gather(part)

    ask(attempt, parts_of(5))
    broken[0] = False
    assert len(gather(torch.zeros(3))[0]) == 3
