"""What the stream asks: Triton, the model repository, a client for each model."""
