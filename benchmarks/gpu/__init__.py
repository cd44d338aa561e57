"""Card of a GPU: what runs there, at what speed, in a few minutes and without network."""
