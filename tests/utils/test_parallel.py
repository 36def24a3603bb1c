"""Work that is shared among threads."""

import threading

import pytest
import torch

from mer.utils.parallel import thread_map


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_are_in_the_order_of_the_items(two_threads):
    assert thread_map(lambda n: n * n, range(20)) == [n * n for n in range(20)]


def test_two_calls_run_at_once_on_one_thread_each(two_threads):
    together = threading.Barrier(2, timeout=30)  # broken if the calls run one after the other

    def count(_):
        together.wait()
        return torch.get_num_threads()

    assert thread_map(count, range(2)) == [1, 1]


def test_the_number_of_threads_is_as_before_afterwards(two_threads):
    with pytest.raises(ZeroDivisionError):
        thread_map(lambda n: 1 / n, range(3))
    assert torch.get_num_threads() == 2


def test_one_item_runs_in_the_calling_thread(two_threads):
    assert thread_map(lambda _: threading.current_thread(), [0]) == [threading.current_thread()]
