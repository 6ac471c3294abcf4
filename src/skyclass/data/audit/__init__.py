"""The audit of a set of images: problems, duplicates, statistics."""
