"""Recipes: all settings of a training, in validated sections."""
