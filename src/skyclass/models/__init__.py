"""Backbones, heads, and what of them is trained."""
