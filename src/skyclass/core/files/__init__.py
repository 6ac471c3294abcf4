"""Files of our own: written whole, replaced at once, locked, and read back with checks."""
