"""One module a stage: a batch of messages in, messages out."""
