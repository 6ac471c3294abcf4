"""A classifier, the run that it comes from, and what both read and write."""
