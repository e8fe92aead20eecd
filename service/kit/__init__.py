"""Tools that know no domain: database, Redis, errors, authentication, metrics, processes."""
