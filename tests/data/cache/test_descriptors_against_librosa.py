"""librosa's compiled functions are left alone.

Two processes that are the first to import librosa may together leave a cache of compiled code whose halves do
not fit, on which every later call ends in a segmentation fault (numba issue 10128). Reading them in does no
harm, so a process is safe while it calls none.
"""

import numpy as np
import pytest
from numba.np.ufunc.gufunc import GUFunc

from mer.data.cache.descriptors import descriptors
from mer.data.similarity import fingerprint
from mer.inference.stimuli import measure
from tests.conftest import noise

CALLS = {
    "descriptors": lambda path: descriptors(noise(2, rate=22_050)),
    "fingerprint": lambda path: fingerprint(noise(20, rate=44_100), 44_100),
    "stimuli": measure,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.promise("Two processes may import librosa for the first time at once.")
def test_no_function_is_called_whose_compiled_form_may_be_broken(call, tmp_path, write_audio, monkeypatch):
    def crash(self, *args, **kwargs):
        pytest.fail(f"{self.__name__} may end the process")

    monkeypatch.setattr(GUFunc, "__call__", crash)
    found = CALLS[call](write_audio(tmp_path / "a.wav", noise(5)))
    assert np.isfinite(found).all()
