"""Where clips may be read from, and that a manifest alone decides nothing of it."""

import fsspec
import pytest

from mer.data.shards.sources import Sources
from mer.utils.errors import AudioError, DataError


@pytest.fixture
def bucket():
    system = fsspec.filesystem("memory")
    system.pipe_file("/bucket/music/a.wav", b"sound")
    system.pipe_file("/other/b.wav", b"secret")
    yield "memory://bucket/music"
    system.rm("/", recursive=True)


def test_a_url_below_an_allowed_one_is_read(bucket, tmp_path):
    sources = Sources.of(tmp_path, (bucket,))
    sources.require("memory://bucket/music/a.wav", "line 1")
    assert sources.read("memory://bucket/music/a.wav") == b"sound"


@pytest.mark.parametrize(
    "url",
    [
        "memory://other/b.wav",
        "memory://bucket/music-of-others/b.wav",
        "memory://bucket/music/../../other/b.wav",
        "memory://bucket/music/%2E%2e/b.wav",
        "memory://bucket/music/..%2fb.wav",
        "memory://bucket/music/%252e%252e%5Cb.wav",
        "memory://bucket/music/a.zip::file:///etc/passwd",
        "simplecache::memory://other/b.wav",
        "file:///etc/passwd",
        "http://169.254.169.254/a.wav",
    ],
)
def test_any_other_url_is_refused(url, bucket, tmp_path):
    with pytest.raises(DataError, match=r"not below a URL that may be read|points outside"):
        Sources.of(tmp_path, (bucket,)).require(url, "line 1")


@pytest.mark.parametrize(
    "url",
    ["/etc", "file:///etc/", "local://etc/", "s3://", "a::s3://b/", "FILE:///etc", "no-such-scheme://a/", ""],
)
def test_only_the_beginning_of_a_url_can_be_allowed(url, tmp_path):
    with pytest.raises(DataError, match="--from"):
        Sources.of(tmp_path, (url,))


def test_a_missing_clip_is_left_out(bucket, tmp_path):
    sources = Sources.of(tmp_path, (bucket,))
    for name in ("memory://bucket/music/none.wav", "none.wav"):
        with pytest.raises(AudioError, match="no such file"):
            sources.read(name)


def test_a_server_that_fails_ends_the_work_instead(bucket, tmp_path, monkeypatch):
    def fail(self, path, start=None, end=None):
        raise TimeoutError("no answer\nfor 60 s")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", fail)
    with pytest.raises(DataError, match=r"TimeoutError: no answer.; when that is solved, try again"):
        Sources.of(tmp_path, (bucket,)).read("memory://bucket/music/a.wav")


def test_a_link_that_leaves_the_folder_is_not_followed(tmp_path):
    (tmp_path / "secret.wav").write_bytes(b"secret")
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "a.wav").symlink_to(tmp_path / "secret.wav")
    with pytest.raises(AudioError, match="a link that leads outside"):
        Sources(folder).read("a.wav")


def test_a_file_too_large_to_be_a_clip_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr("mer.data.shards.sources.MOST_BYTES", 10)
    (tmp_path / "a.wav").write_bytes(bytes(1000))
    with pytest.raises(AudioError, match="larger than"):
        Sources(tmp_path).read("a.wav")


def test_a_decomposed_name_is_found(tmp_path):
    (tmp_path / "e\u0301.wav").write_bytes(b"sound")
    assert Sources(tmp_path).read("\u00e9.wav") == b"sound"
