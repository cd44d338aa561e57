"""Execution of a run as units of work, from the clean pass to the finished folder."""
