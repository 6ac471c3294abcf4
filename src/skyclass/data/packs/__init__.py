"""Packs: images on disk as training reads them, and what loads them."""
