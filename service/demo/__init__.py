"""The whole service in one process tree: train on real campaigns, serve, expand, and say how good the audience is."""
