"""What is computed from observations: pure functions, without network, clock or state."""
