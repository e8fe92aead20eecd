"""Campaigns, and the expansion requests made for them."""
