"""From parsed options to the request for a run, and back. Options override the preset."""

import dataclasses
import shlex
from argparse import Namespace
from contextlib import suppress
from typing import TYPE_CHECKING

from mer.config.inputs import WEIGHTS_FOLDER, required_input
from mer.config.presets import IMAGES, preset
from mer.config.sections import Config
from mer.config.settings import Section
from mer.data.song_names import AUTO
from mer.utils.errors import ConfigError

if TYPE_CHECKING:
    from mer.experiments.prepared import Spec

__all__ = ["command_for", "given_settings", "make_spec", "requested_config", "requested_preset"]


def given_settings(arguments: Namespace) -> dict:
    """The settings that were given on the command line."""
    return {
        key.removeprefix("set_"): value for key, value in vars(arguments).items() if key.startswith("set_")
    }


def requested_preset(arguments: Namespace) -> str:
    """The name of the preset: `default` if none is given, or `full` with random weights.

    Most frozen networks with random weights give almost the same output for every image.
    """
    random = given_settings(arguments).get("weights") == "none"
    return arguments.preset or ("full" if random else "default")


def requested_config(arguments: Namespace, **changes: object) -> Config:
    """The preset with the given settings and with `changes`.

    If no backbone was given, and the settings do not fit the networks of the preset, or their weights are not
    on this machine, the backbone is the usual network for images.
    """
    name, settings = requested_preset(arguments), given_settings(arguments) | changes
    if "backbone" in settings or not required_input(preset(name).train.backbone):
        return preset(name, **settings)
    if WEIGHTS_FOLDER.is_dir():
        with suppress(ConfigError):
            return preset(name, **settings)
    return preset(name, backbone=IMAGES, **settings)


def make_spec(arguments: Namespace, config: Config) -> "Spec":
    """The request for a run, with the command as it was typed."""
    from mer.experiments.prepared import Spec

    return Spec(
        data=str((getattr(arguments, "data", None) or arguments.path).absolute()),
        config=config,
        label_column=arguments.label_column,
        song_column=arguments.song_column,
        song_pattern=arguments.song_pattern,
        drop_conflicts=arguments.drop_conflicts,
        command=shlex.join(["python", "-m", "mer", *arguments.words]),
    )


def command_for(spec: "Spec", *, preset_name: str) -> str:
    """The command line for the same request as `spec`, quoted for a POSIX shell.

    It names the data, columns other than the default, the preset, and each setting that differs from that
    preset. `fold` has no option: the command is that of the whole cross-validation. Raises ConfigError for
    an unknown preset, or if split and training have different seeds, since `--seed` sets both.
    """
    config, usual = spec.config, preset(preset_name)
    try:
        base = preset(preset_name, backbone=config.train.backbone)  # its settings need no options
    except ConfigError:  # this backbone needs changes to the preset
        base = usual
    if config.split.seed != config.train.seed:
        raise ConfigError(
            f"seed={config.split.seed} of the split and seed={config.train.seed} of the training differ; "
            "a command line has one --seed for both: use the same seed"
        )
    words = ["python", "-m", "mer", "train", *_option("data", spec.data)]
    for column in ("label", "song"):
        name = getattr(spec, f"{column}_column")
        words += _option(f"{column}_column", name) if name != column else []
    words += _option("song_pattern", spec.song_pattern) if spec.song_pattern != AUTO else []
    words += _option("drop_conflicts", True) if spec.drop_conflicts else []
    words += _option("preset", preset_name)
    if config.train.backbone != usual.train.backbone:
        words += _option("backbone", config.train.backbone)
    changed = {
        name: value
        for part in dataclasses.fields(config)
        for name, value in _changes(getattr(config, part.name), getattr(base, part.name))
        if name != "fold"
    }
    return shlex.join([*words, *(word for name, value in changed.items() for word in _option(name, value))])


def _changes(part: Section, base: Section) -> list[tuple[str, object]]:
    """Name and value of each setting that differs between `part` and `base`."""
    return [(name, value) for name, value in part.to_dict().items() if value != getattr(base, name)]


def _option(name: str, value: object) -> list[str]:
    """The words that give a setting: `--name value`, `--name` or `--no-name`."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    text = str(value)
    return [f"--{flag}={text}"] if text.startswith("-") else [f"--{flag}", text]
