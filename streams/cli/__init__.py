"""The command line: each module has one group of commands."""
