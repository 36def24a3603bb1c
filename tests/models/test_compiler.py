"""torch's compiler takes a second to import, so nothing that networks for music need imports it."""

import subprocess
import sys

import pytest

START = "import sys; from mer.models.build import require_classifier; from mer.config.presets import preset; "
USES = {
    "opening the shipped checkpoint": "from mer.models.checkpoint import load_checkpoint; "
    "load_checkpoint('checkpoints/emotify_music')",
    "checking the default preset": "one = preset('default'); "
    "require_classifier(one.train, classes=5, shape=one.input_shape)",
}


@pytest.mark.parametrize("use", USES)
def test_networks_for_music_do_without_the_compiler_of_torch(use):
    code = f"{START}{USES[use]}; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
