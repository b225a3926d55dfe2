"""The demo sample, and how it was made."""
