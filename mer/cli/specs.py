"""From parsed options to what a run is asked to do: command line > preset."""

import shlex
from argparse import Namespace
from typing import TYPE_CHECKING

from mer.config import Config

if TYPE_CHECKING:
    from mer.material import Spec

__all__ = ["given_settings", "make_spec"]


def given_settings(arguments: Namespace) -> dict:
    """The settings that were named on the command line."""
    return {
        key.removeprefix("set_"): value for key, value in vars(arguments).items() if key.startswith("set_")
    }


def make_spec(arguments: Namespace, config: Config) -> "Spec":
    """Data, columns, settings, and the command as typed."""
    from mer.material import Spec

    return Spec(
        data=str((getattr(arguments, "data", None) or arguments.path).absolute()),
        config=config,
        label_column=arguments.label_column,
        song_column=arguments.song_column,
        command=shlex.join(["python", "-m", "mer", *arguments.words]),
    )
