"""The training loop: what happens in an epoch, and what is kept of it."""
