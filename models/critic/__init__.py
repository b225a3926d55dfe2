"""Trains and judges the critic, a conditional WGAN-GP that says how genuine a fingerprint looks."""
