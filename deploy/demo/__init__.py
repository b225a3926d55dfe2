"""The tables of the demo, the script that made them, and an example of a subscriber."""
