"""Hyperparameter tuning: the search space, a study that processes share, trials, and results."""
