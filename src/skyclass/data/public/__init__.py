"""Public data sets: downloaded, checked, unpacked, converted."""
