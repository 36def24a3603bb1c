"""Small folders and zips without sound."""

import zipfile

import pytest


@pytest.fixture
def grow(tmp_path):
    """`grow(*names) -> root`: a folder with empty files of these names."""

    def grow(*names):
        root = tmp_path / "corpus"
        root.mkdir(exist_ok=True)
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        return root

    return grow


@pytest.fixture
def pack(tmp_path):
    """`pack(*names) -> zip`: a zip with one line of text under each name."""

    def pack(*names, to="corpus.zip"):
        path = tmp_path / to
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, f"content of {name}\n" * 20)
        return path

    return pack
