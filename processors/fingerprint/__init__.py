"""Observations become one fingerprint per galaxy."""
