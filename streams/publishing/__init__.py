"""Publishes observations to the broker, from programs and from files."""
