"""Signal processing and models: synchronous, each object used from one thread."""
