"""Each page opens on a home that cannot be written."""

import pytest

from tests.page_helpers import TITLES, errors, opened


@pytest.fixture
def read_only(lab, small_disk, monkeypatch):
    home = small_disk("256m", lab.home.parent) / "home"
    monkeypatch.setenv("MER_HOME", str(home))
    return home


@pytest.mark.parametrize("name", TITLES)
@pytest.mark.promise("With a read-only home predictions work and every page opens.")
def test_a_page_of_a_read_only_home_opens(name, read_only, unmeasured):
    app = opened(name)
    assert not app.exception
    assert app.title[0].value == TITLES[name]
    assert all("Read-only file system; free some space" in error for error in errors(app))
