"""The three stages, a module each, and what they are made of.

A stage takes a batch of messages and returns messages to send. It does not read or send itself:
that is done in ``running``.
"""
