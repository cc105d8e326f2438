"""Spans of OpenTelemetry for what becomes of a message; nothing, unless OUTBOX["TRACING"] is on."""
