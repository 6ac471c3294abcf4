"""Skyclass: astronomical images into trained, calibrated, explained classifiers."""

__version__ = "0.1.0"
