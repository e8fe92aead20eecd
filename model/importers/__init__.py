"""Importers: each turns one well-known raw data set into a campaign-dataset directory."""
