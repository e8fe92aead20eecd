"""The production service around the model: api, worker and scheduler processes."""
