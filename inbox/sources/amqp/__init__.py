"""A group's queue on an AMQP broker."""
