"""Training: runs, ensembles, resuming, tuning, and the loop that they share."""
