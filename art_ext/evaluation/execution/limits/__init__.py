"""A run on the limits of robustness: attacks, Lipschitz constants, risks and their units."""
