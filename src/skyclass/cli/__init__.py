"""The command line: options and errors; the work is done by commands."""
