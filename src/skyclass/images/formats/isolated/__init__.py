"""Risky decoders in a process of their own."""
