"""Simulated lenses and galaxies with the truth beside them."""
