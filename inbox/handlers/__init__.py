"""The handlers of this service: which there are, in which order and group they run."""
