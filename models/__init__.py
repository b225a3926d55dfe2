"""Train, judge, package and serve everything that is learned from data, and the data simulator."""
