"""A synthetic stand-in for MER500, made by rule: no recording, no licence, the same bytes every time.

It exists so that everything in `mer` can be tried and tested without the real data. Its five classes
overlap on purpose, yet what a network scores on it says nothing about Hindi film music.
"""

from mer.data.demo.band import compose, play
from mer.data.demo.corpus import GENERATOR, write_demo
from mer.data.demo.example import example_clip
from mer.data.demo.styles import Song, draw_song

__all__ = ["GENERATOR", "Song", "compose", "draw_song", "example_clip", "play", "write_demo"]
