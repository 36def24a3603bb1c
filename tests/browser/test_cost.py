"""What looking at the Live page costs the server."""

import pytest

from benchmarks.live import measure
from tests.browser.conftest import Server


@pytest.fixture
def fresh_server(own_home):
    server = Server(own_home).start()
    yield server
    server.kill()


def test_a_viewer_of_three_active_runs_costs_little(fresh_server, page):
    """Measured: 3.4% of a core; the limit leaves room for slow machines, and none for the 20% it once was."""
    alone, watched = measure(fresh_server, page, seconds=15)
    assert watched - alone < 0.1
