"""Sharded sets: the features of any number of clips in large files, with an index of 39 bytes per clip.

    <root>/plan.json         the request: settings, columns, number of clips, clips per shard
    <root>/clips.arrow       name, label, song and given part of each line of the manifest (Arrow IPC, mapped)
    <root>/order.npy         line numbers, sorted by the hash of the clip's name; shards follow this order
    <root>/shards/00042.bin      images, one after the other, each with a checksum
    <root>/shards/00042.parquet  result for each clip of the shard; written after the images
    <root>/index.npy         for each usable clip: line, label, part, song, and where its images are
    <root>/set.json          summary; written when all shards are complete
    <root>/left_out.parquet  files that were left out, and why

Clips are sorted by hash, so neighbours are unrelated and a few shards are a random sample of the set. Images
are float16 in dB, as in `mer.data.cache.store`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "make": ["Made"],
        "read": ["ShardSet", "ShardWindows"],
    },
)
