"""Small, randomly initialised models of many architectures, for tests and support tables."""
