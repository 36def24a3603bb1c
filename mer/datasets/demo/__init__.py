"""A synthetic stand-in for MER500, made by rule: no recording, no licence, the same bytes every time.

It exists so that everything in `mer` can be tried and tested without the real data. Its five classes
overlap on purpose, yet what a network scores on it says nothing about Hindi film music.
"""

from mer.datasets.demo.band import compose, play
from mer.datasets.demo.corpus import GENERATOR, write_demo
from mer.datasets.demo.example import example_clip
from mer.datasets.demo.styles import Song, draw_song

__all__ = ["GENERATOR", "Song", "compose", "draw_song", "example_clip", "play", "write_demo"]
