"""Flowsheet: an experiment platform for patient time series."""

__version__ = "0.1.0"
