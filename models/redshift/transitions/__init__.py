"""Learns from published lines which transition a single line is, and judges it."""
