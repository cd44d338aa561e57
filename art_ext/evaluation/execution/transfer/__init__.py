"""Transfer of adversarial examples from source models to target models, as units of work."""
