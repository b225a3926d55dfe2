"""Recover the lines of a galaxy that were not measured from those that were: fit and judgement."""
