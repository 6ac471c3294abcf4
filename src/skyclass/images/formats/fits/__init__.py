"""FITS: images, cutouts of frames, cards checked first, and world coordinates."""
