"""The API described by itself: OpenAPI, its pages, and what each problem means."""
