"""The method: data form, networks, meta-training, adaptation, scoring. Knows no web, no SQL, no environment."""
