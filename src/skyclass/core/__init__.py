"""Errors, messages, files and processes, which all other packages use."""
