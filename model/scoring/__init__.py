"""Scoring: a head applied to every user of a pool, and the best of them kept."""
