"""The search for a better recipe: a space of values, a study that processes share, trials, and what came of it."""
