"""Offline work: data sets, training, evaluation. Never imported by the server."""
