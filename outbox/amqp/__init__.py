"""One client of AMQP 0-9-1 brokers, for both sides: who publishes and who consumes."""
