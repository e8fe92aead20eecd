"""How fast the parts are, each against a plain reference in the same process."""
