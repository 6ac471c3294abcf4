"""Recipes: what a training is told, in sections that are checked."""
