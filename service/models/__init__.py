"""The model registry: published versions, the gate, promotion and rollback."""
