"""Loaded by schemathesis: NDJSON is text to it."""

import schemathesis

schemathesis.serializer.alias("application/x-ndjson", "text/plain")
