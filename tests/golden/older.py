"""What the first mer wrote, into tests/golden/older: `python -m tests.golden.older` from the repository root.

All of it is spelt out here, and no function of mer is asked, so that what is old stays old.
"""

import json
import sqlite3
from pathlib import Path

import mlflow
import torch
from alembic import command
from alembic.config import Config
from mlflow.store.tracking.dbmodels.initial_models import Base
from safetensors.torch import save_file
from sqlalchemy import create_engine

FOLDER = Path(__file__).with_name("older")
SCHEMA = "acf3f17fdcc7"  # of MLflow 2.8 to 2.13
RUN = "0123456789abcdef0123456789abcdef"
SETTINGS = {
    "audio": {"sample_rate": 16000, "window_seconds": 10.0, "hop_seconds": 5.0, "pad": "zero"},
    "mel": {
        "n_fft": 2048, "hop_length": 512, "n_mels": 128, "f_min": 20.0, "f_max": 8000.0, "scale": "slaney",
        "reference": "max", "top_db": 80.0, "image_size": 224,
    },
    "split": {
        "test": 0.2, "validation": 0.15, "group_by_song": True, "folds": 0, "fold": 0, "seed": 0,
    },
    "augment": {
        "time_masks": 0, "time_mask_share": 0.15, "frequency_masks": 0, "frequency_mask_share": 0.15,
        "time_shift": 0.0, "mixup": 0.0,
    },
    "train": {
        "backbone": "efficientnet_lite0", "weights": "imagenet", "head": "avg", "freeze": "none",
        "dropout": 0.2, "loss": "ce", "label_smoothing": 0.0, "class_weights": False, "optimizer": "adamw",
        "lr": 0.001, "backbone_lr": 1.0, "weight_decay": 0.0, "schedule": "constant", "warmup": 0.0,
        "batch_size": 64, "epochs": 5, "patience": 0, "keep": "last", "device": "auto", "amp": True,
        "seed": 0,
    },
}  # fmt: skip
CARD = {
    "classes": ["Happy", "Sad"],
    "config": SETTINGS,
    "normalization": {"mean": -40.0, "std": 12.5},
    "data": {"name": "songs", "clips": 16},
    "split": {},
    "metrics": {"accuracy": 0.5},
    "command": "python -m mer train songs",
    "created": "2026-01-01T00:00:00+00:00",
    "versions": {"mer": "0.1"},
    "dtype": "float32",
    "notes": "",
}
SPEC = {
    "data": "songs", "config": SETTINGS, "label_column": "label", "song_column": "song",
    "command": "python -m mer train songs",
}  # fmt: skip
LIBRARY = [
    {"name": "songs", "path": "/music/songs", "label_column": "label", "song_column": "song",
     "source": "folder", "synthetic": False},
]  # fmt: skip
NOTE = {"epoch": 1, "history": [{"epoch": 1, "train_loss": 0.5}], "best_epoch": 0, "param_groups": []}


def database() -> str:
    """A run store of an older MLflow with one run that was stopped, as SQL."""
    engine = create_engine("sqlite://")
    place = Path(mlflow.__file__).parent / "store" / "db_migrations"
    config = Config(str(place / "alembic.ini"))
    config.set_main_option("script_location", str(place))
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, SCHEMA)
        raw: sqlite3.Connection = connection.connection.driver_connection
        raw.execute("INSERT INTO experiments VALUES (1, 'mer', 'artifacts', 'active', 0, 0)")
        raw.execute(
            "INSERT INTO runs VALUES (?, 'old', 'UNKNOWN', '', '', 'me', 'KILLED', 1767225600000, "
            "1767225700000, '', 'active', 'artifacts/1', 1, NULL)",
            [RUN],
        )
        for key, value in (("mer.spec", json.dumps(SPEC)), ("mlflow.runName", "old")):
            raw.execute("INSERT INTO tags VALUES (?, ?, ?)", [key, value, RUN])
        raw.execute("INSERT INTO metrics VALUES ('train_loss', 0.5, 1767225650000, ?, 1, 0)", [RUN])
        raw.execute("INSERT INTO latest_metrics VALUES ('train_loss', 0.5, 1767225650000, 1, 0, ?)", [RUN])
        return "\n".join(raw.iterdump()) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "card.json").write_text(json.dumps(CARD, indent=1) + "\n")
    (FOLDER / "library.json").write_text(json.dumps(LIBRARY, indent=1) + "\n")
    (FOLDER / "mlflow.sql").write_text(database())
    tensors = {"model/weight": torch.arange(4.0), "optimizer/0/step": torch.tensor(1.0)}
    save_file(tensors, FOLDER / "state.safetensors", metadata={"note": json.dumps(NOTE)})
