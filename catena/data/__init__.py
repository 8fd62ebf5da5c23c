"""From raw files to clean, separate training, validation and test parts. Knows no torch, DVC or Prefect."""
