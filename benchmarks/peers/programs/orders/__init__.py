"""An app with one model, for the one-row transaction."""
