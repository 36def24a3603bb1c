"""A sharded set: the features of any number of clips in large files, found by an index of 39 bytes a clip.

    <root>/plan.json         what was asked for: settings, columns, which clips, how many to a shard
    <root>/clips.arrow       name, label, song and given part of each line, read where it lies (Arrow IPC)
    <root>/order.npy         the lines in the order of the hashes of their names, which is that of the shards
    <root>/shards/00042.bin      images, one after the other, each with a checksum
    <root>/shards/00042.parquet  what became of each of its clips; written last
    <root>/index.npy         of each usable clip: line, label, part, song, where its images are
    <root>/set.json          what it amounts to; written when all shards are there
    <root>/left_out.parquet  files that gave no clip, and why

Clips lie in the order of hashes, so that neighbours have nothing to do with each other and a few shards are a
fair sample of all. Images are float16 in dB, as in `mer.data.cache.store`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "make": ["Made"],
        "read": ["ShardSet", "ShardWindows"],
    },
)
