"""The rows of `lookalike speed` that a caller of the whole service would measure."""
