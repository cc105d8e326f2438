"""Send again what groups have not acknowledged in time, to the queue of that group alone."""
