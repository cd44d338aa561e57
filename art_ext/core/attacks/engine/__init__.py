"""The driver of the attacks, and the parts that several attacks share."""
