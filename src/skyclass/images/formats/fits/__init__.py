"""FITS: images, cutouts of mosaics, cards checked first, and world coordinates."""
