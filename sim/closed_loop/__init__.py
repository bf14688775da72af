"""The closed loop: a world of the simulator drives a running service, which is held to its promises."""
