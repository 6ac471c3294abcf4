"""Sources of images, each of which becomes a catalog."""
