"""What is served: one row with model version, pool snapshot and the pool's representation under that model."""
