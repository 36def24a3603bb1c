"""Cached reads of runs, data sets, models and results."""
