"""Commands in a home of their own. Modules whose commands need more have a `mer` of their own."""

import pytest

from mer.cli import main


@pytest.fixture
def mer(capsys, own_home):
    """Run a command in a home of its own; returns exit status, what it printed, and what it said."""

    def run(*words):
        status = main([str(word) for word in words])
        return status, *capsys.readouterr()

    return run
