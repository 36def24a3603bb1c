"""Twenty visitors for two minutes beside a training run, twice."""

import pytest

from tests.browser.conftest import arrive
from tests.browser.load import measure

PAGES = ("", "data", "live", "predict", "compare", "map", "train", "confusion")
BROKEN = "[data-testid=stException], [data-testid=stAlertContentError], [data-testid=stConnectionStatus]"


@pytest.fixture
def witness(page):
    """Looks at one page after the other with a real browser, and fails at the first that is broken."""
    addresses = iter(PAGES * 100)
    page.set_default_timeout(300_000)  # ms: that a page is late among so many is told by other figures

    def look(url):
        address = next(addresses)
        page.goto(f"{url}/{address}")
        arrive(page)
        broken = page.locator(BROKEN)
        assert broken.count() == 0, f"{address}: {broken.all_inner_texts()}"
        assert "Connection error" not in page.inner_text("body")

    return look


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.promise(
    "Twenty visitors beside a training run get no error, and the run keeps its share of the cores.",
    measured="see [below](#many-visitors-at-once)",
)
def test_twenty_visitors_for_two_minutes_beside_a_training_run(own_home, witness, record_property):
    found = measure(own_home, sessions=20, seconds=120, witness=witness)
    record_property("figures", found)
    first, second = found["loads"]
    for load in (first, second):
        assert (load["errors"], load["dropped"]) == ([], 0)
        assert load["acts"]["predict"]["n"] >= 20
        assert load["acts"]["look"]["n"] >= 100
        assert load["acts"]["predict"]["p95"] < 30
        # Dashboard and run share the cores with those who ask and draw: half of what the two have is fair.
        assert load["cores"]["training"] > 0.4 * (load["cores"]["training"] + load["cores"]["server"])
        assert load["steps_per_s"] > 0.2 * found["alone"]["steps_per_s"]
        assert load["steps_per_cpu_s"] > 0.6 * found["alone"]["steps_per_cpu_s"]
    assert second["peak_mb"]["server"] < 1.15 * first["peak_mb"]["server"]
    assert first["peak_mb"]["with_commands"] < 3000
    assert found["all_at_once"]["grew_mb"] < 2000
