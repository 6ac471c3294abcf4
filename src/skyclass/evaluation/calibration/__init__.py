"""Calibration of probabilities, its errors, and prediction sets."""
