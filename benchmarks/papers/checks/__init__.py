"""Functions that fill tables which no run of evaluate, transfer or train fills."""
