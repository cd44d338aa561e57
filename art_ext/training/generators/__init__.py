"""Training of conditional generators."""
