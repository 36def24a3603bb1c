"""The tables of formats in docs/data.md are those of the code, and every file is heard everywhere."""

import shutil

import pytest

from tests import heard


def test_the_page_lists_every_accepted_suffix():
    text = heard.PAGE.read_text("utf-8")
    assert "\n".join(heard.suffixes_table()) in text
    assert all(f"| {row.container} | {row.codec} |" in text for row in heard.ROWS)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="no command ffmpeg, which encodes the files")
@pytest.mark.promise(
    "The sound of phones, browsers and messengers is heard wherever sound is accepted.",
    measured="30 kinds of files x 6 ways",
)
@pytest.mark.promise(
    "A format that one way in accepts is accepted by all.", measured="30 kinds of files, 6 ways"
)
def test_every_container_and_codec_is_heard_everywhere(tmp_path, runs_home):
    (clips := tmp_path / "clips").mkdir()
    found = heard.heard(heard.encoded(heard.ROWS, clips), tmp_path)
    missed = [
        (way, row.container, row.codec)
        for way, answers in found.items()
        for row, well in zip(heard.ROWS, answers, strict=True)
        if not well
    ]
    assert missed == []
    tables = [*heard.suffixes_table(), "", *heard.heard_table(found)]
    assert heard.page(tables) == heard.PAGE.read_text("utf-8")
