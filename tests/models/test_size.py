"""The size of a network: one definition, planned or built."""

import pytest

from mer.config.presets import preset
from mer.models.build import configured_classifier
from mer.models.size import planned_size, size_of
from mer.models.zoo import get_network


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("default", {"backbone": "efficientnet_lite0"}), ("quick", {"backbone": "efficientnet_lite0"}),
        ("full", {"backbone": "efficientnet_lite0"}), ("default", {"backbone": "musicnn_msd"}),
        ("as-released", {"backbone": "alexnet", "weights": "none"}),
    ],
)  # fmt: skip
def test_the_planned_size_is_that_of_the_built_network(name, changes):
    config = preset(name, **changes).train
    assert planned_size(config, classes=5) == size_of(
        configured_classifier(config, classes=5, weights="none")
    )


def test_only_what_training_changes_counts_as_trained():
    frozen = planned_size(preset("quick", backbone="efficientnet_lite0").train, classes=5)
    whole = planned_size(preset("full", backbone="efficientnet_lite0").train, classes=5)
    assert frozen.total == whole.total == whole.trained
    assert frozen.trained == 1280 * 5 + 5, "a linear layer"


def test_the_old_output_layer_and_a_last_stage_that_is_left_out_do_not_count():
    whole = planned_size(preset("full", backbone="efficientnet_lite0").train, classes=5).total
    assert whole == get_network("efficientnet_lite0").source.parameters - 995 * (1280 + 1)
    assert planned_size(preset("default", backbone="efficientnet_lite0").train, classes=5).total < whole
