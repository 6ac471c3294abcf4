"""Files that Skyclass writes: atomically, replaced at once, locked, and validated when they are read."""
