"""Pure computation on events: no network, no clock, no threads, no global state."""
