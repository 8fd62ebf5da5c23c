"""The training engine: batches, precision, checkpoints and the loop around transformers' Trainer."""
