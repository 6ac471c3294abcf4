"""Formats of image files, and where an image lies that is no file of its own."""
