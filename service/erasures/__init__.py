"""Erasures: users taken out of the pool, of stored seeds and of audiences, and kept out of later imports."""
