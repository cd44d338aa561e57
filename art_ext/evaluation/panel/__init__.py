"""Panels: the attacks of an evaluation, their arguments and their targets."""
