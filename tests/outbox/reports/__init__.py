"""Tests of outbox.reports."""
