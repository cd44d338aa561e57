"""Sweeps: a grid of trainings or evaluations, each of them an ordinary run folder."""
