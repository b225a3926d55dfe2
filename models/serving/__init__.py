"""Serves models to the stream: Triton, its model repository, and a client for each model."""
