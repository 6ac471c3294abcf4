"""The training loop: the Lightning module, its losses, optimisers, callbacks and checkpoints."""
