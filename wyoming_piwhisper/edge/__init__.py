"""Wire formats and the outside world: protocol, files, settings."""
